"""A model that has learned few words leaves out all others, where a larger one would guess.

A CLIP that was trained on a few thousand names has learned nothing for most tokens of its
tokenizer: the word "would" moves its features at random. A file of the words that it has learned,
beside its weights, closes its vocabulary.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path

from fti_qdrant.errors import CheckpointError, first_line
from fti_qdrant.model.prompts import AND, BUT, PHOTO_OF, WITH
from fti_qdrant.model.tokens import Vocabulary

VOCABULARY_FILE = "vocabulary.txt"
"""In the folder of a model: the words and punctuation marks that it has learned, one per line."""

PROMPT_WORDS = frozenset(" ".join((PHOTO_OF, WITH, AND, BUT)).split())

_PIECE = re.compile(r"[\w']+(?:-[\w']+)*|[^\w\s]")


def words_in(texts: Iterable[str]) -> set[str]:
    """The words and marks of texts, as a vocabulary file holds them."""
    return {piece.lower() for text in texts for piece in _PIECE.findall(text)}


@dataclass(frozen=True)
class ClosedVocabulary:
    """The words that a model has learned; lower case.

    Example:
        >>> learned = ClosedVocabulary(frozenset(["dark", "skin", "with"]))
        >>> learned.read("What about her with dark skin?")
        'with dark skin'
        >>> learned.left_out("What about her with dark skin?")
        ('What', 'about', 'her', '?')
        >>> learned.read("a dark-skinned one"), learned.read("nothing known")
        ('dark', 'nothing known')
    """

    words: frozenset[str]

    @classmethod
    def beside(cls, folder: Path | None) -> ClosedVocabulary | None:
        """Of a model's folder; None where the folder has no such file.

        Raises CheckpointError where the file cannot be read, or is empty.
        """
        path = None if folder is None else folder / VOCABULARY_FILE
        if path is None or not path.exists():
            return None
        try:
            words = frozenset(path.read_text(encoding="utf-8").lower().split())
        except (OSError, UnicodeDecodeError) as error:
            raise CheckpointError(f"{path} cannot be read: {first_line(error)}") from error
        if not words:
            raise CheckpointError(f"{path} is empty; write one word per line, or remove it")
        return cls(words | PROMPT_WORDS)

    def read(self, text: str) -> str:
        """The text without the words that are not learned; as it is where none would be left."""
        kept = [piece for piece in self._pieces(text) if piece.lower() in self.words]
        return " ".join(kept) or text

    def left_out(self, text: str) -> tuple[str, ...]:
        """The words and marks of a text that ``read`` leaves out; none where it leaves all."""
        pieces = list(self._pieces(text))
        unknown = tuple(piece for piece in pieces if piece.lower() not in self.words)
        return unknown if len(unknown) < len(pieces) else ()

    @cached_property
    def digest(self) -> str:
        """A hash of the words."""
        return hashlib.sha256("\n".join(sorted(self.words)).encode()).hexdigest()[:16]

    def close(self, vocabulary: Vocabulary) -> Vocabulary:
        """The vocabulary whose texts are read without the words that are not learned."""
        return replace(vocabulary, encode=partial(self._encode, vocabulary.encode))

    def _encode(self, encode: Callable[[str], list[int]], text: str) -> list[int]:
        return encode(self.read(text))

    def _pieces(self, text: str) -> Iterator[str]:
        """Words and marks; a compound that is not learned in its parts."""
        for piece in _PIECE.findall(text):
            whole = piece.lower() in self.words
            yield from [piece] if whole or "-" not in piece.strip("-") else piece.split("-")
