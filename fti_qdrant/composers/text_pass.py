"""One pass through the text tower for the texts and prompts of many queries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.tokens import Fixed, SentPrompt, Tokens, Vocabulary

Line = str | tuple[Fixed, list[int]]
"""A plain text, or the fixed and free part of a prompt with pseudo-words."""


@dataclass
class TextPass:
    """Collects texts and prompts, and encodes them together; an equal plain text only once."""

    backbone: Backbone
    lines: list[Line] = field(default_factory=list)
    words: list[Tensor] = field(default_factory=list)
    plain: dict[str, int] = field(default_factory=dict)

    def text(self, text: str) -> int:
        """Adds a plain text; returns its row in the result."""
        if text not in self.plain:
            self.plain[text] = len(self.lines)
            self.lines.append(text)
        return self.plain[text]

    def prompt(self, counts: Sequence[int], words: Tensor, text: str) -> int:
        """Adds a prompt with the pseudo-words of some images; returns its row.

        Args:
            counts: the number of attribute tokens of each image.
            words: ``[sum(1 + count), t]``, each image's subject and then its attributes.
        """
        self.lines.append(self.backbone.prompts.line(counts, text))
        self.words.append(words)
        return len(self.lines) - 1

    def run(self) -> EncodedTexts:
        """Encodes everything at once. Raises PromptTooLong."""
        tokens = self._tokens()
        words = torch.cat(self.words) if self.words else None
        features = self.backbone.text_features(tokens, words).float()
        return EncodedTexts(features, tokens.truncated, self.lines, self.backbone)

    def _tokens(self) -> Tokens:
        """A text tower that takes no pseudo-words has a tokenizer of its own, and no prompts."""
        texts = [line for line in self.lines if isinstance(line, str)]
        if len(texts) == len(self.lines):
            return self.backbone.tokenize(texts)
        vocabulary = self.backbone.vocabulary
        return vocabulary.assemble([_encoded(line, vocabulary) for line in self.lines])


@dataclass(frozen=True)
class EncodedTexts:
    """What a ``TextPass`` gives.

    Attributes:
        features: ``[N, d]``, not normalized.
        truncated: for each row, whether the end of its text was cut.
    """

    features: Tensor
    truncated: tuple[bool, ...]
    lines: Sequence[Line]
    backbone: Backbone

    def as_sent(self, row: int) -> SentPrompt:
        """A row as the text tower saw it."""
        line = self.lines[row]
        if isinstance(line, str) and not self.backbone.abilities.pseudo_words:
            return SentPrompt((line,))
        vocabulary = self.backbone.vocabulary
        return vocabulary.as_sent(*_encoded(line, vocabulary))


def _encoded(line: Line, vocabulary: Vocabulary) -> tuple[Fixed, list[int]]:
    return ([], vocabulary.encode(line)) if isinstance(line, str) else line
