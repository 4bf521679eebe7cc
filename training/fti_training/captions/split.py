"""Splits a caption: the subject ends with the first noun, the rest are the attributes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fti_qdrant.errors import FtiError, first_line
from fti_training.captions import rules
from fti_training.captions.phrases import Token, is_decoration, subject_span
from fti_training.split_caption import SplitCaption

MIN_WORDS = 4
"""Captions of fewer words are dropped, as in the paper."""

MAX_REPEATED = 12
"""Most words of a phrase that is repeated; a captioner writes at most 25 tokens."""

RULES_NAME = "rules 2"
"""The number goes up when captions are split in another way: they are then split again."""

RULES_TITLE = "the built-in tagger (no English model of spaCy is installed)"

MARKS = " \t\n\r,;:.!?-–—_\"'。、，！？；：…"


@dataclass(frozen=True)
class Splitter:
    """Splits captions by the part-of-speech tags of one tagger.

    Where the subject ends does not depend on the tagger: see ``phrases.subject_span``.

    Attributes:
        name: the tagger with its version, for the metadata of the captions file.
        tag: caption -> its words with universal part-of-speech tags.
        title: the tagger, as a reader of the command's output knows it.
    """

    name: str
    tag: Callable[[str], Sequence[Token]]
    title: str = ""

    def __call__(self, caption: str) -> SplitCaption | None:
        """The two parts; None for under 4 words, without a subject, or with nothing after it."""
        if sum(re.search(r"\w", word) is not None for word in caption.split()) < MIN_WORDS:
            return None
        span = subject_span(caption, self.tag(caption))
        if span is None:
            return None
        subject = stripped(caption[slice(*span)])
        attributes = stripped(caption[span[1] :])
        if not subject or not re.search(r"\w", attributes):
            return None
        return SplitCaption(subject, attributes)


def stripped(part: str) -> str:
    """Without marks, quotes, symbols and emoji at its ends. Brackets that belong together stay.

    Example:
        >>> stripped("” in a red dress (size M) 🔥")
        'in a red dress (size M)'
    """
    start, end = 0, len(part)
    while start < end and _is_mark(part[start], part, "(["):
        start += 1
    while start < end and _is_mark(part[end - 1], part[start:end], ")]"):
        end -= 1
    return part[start:end]


def _is_mark(character: str, part: str, kept: str) -> bool:
    if character in kept and part.count("(") + part.count("[") == part.count(")") + part.count("]"):
        return False
    return character in MARKS or is_decoration(character)


def choose_splitter() -> Splitter:
    """spaCy's tagger if an English model for it is installed, else the built-in rules.

    Raises FtiError where an installed model cannot be loaded.
    """
    try:
        import spacy
    except ImportError:
        return rule_splitter()
    installed = [one for one in spacy.util.get_installed_models() if one.startswith("en_")]
    if not installed:
        return rule_splitter()
    name = min(installed, key=len)  # the small model: its tags are as good here, and faster
    try:
        model = spacy.load(name, exclude=["parser", "ner", "lemmatizer"])
    except Exception as error:  # each version of a model fails in its own way
        raise FtiError(
            f"spaCy's model {name} cannot be loaded ({first_line(error)}); install the one for "
            "this version of spaCy, or uninstall it: the built-in splitter needs none"
        ) from error
    return spacy_splitter(model)


def rule_splitter() -> Splitter:
    """The built-in splitter; needs no download."""
    return Splitter(RULES_NAME, rules.tag, RULES_TITLE)


def spacy_splitter(model: Any) -> Splitter:
    """A splitter that uses a spaCy pipeline with a tagger."""

    def tag(caption: str) -> list[Token]:
        return [
            Token(token.text, token.idx, token.idx + len(token), token.pos_)
            for token in model(caption)
        ]

    name = f"{model.meta['lang']}_{model.meta['name']} {model.meta['version']}"
    return Splitter(f"spacy {name}", tag, f"spaCy's tagger {name}")


def cut_repeated_end(caption: str) -> str:
    """Cuts phrases that a captioner repeats at the end: "red hair hair hair" -> "red hair".

    Phrases of up to 12 words, ignoring case and commas; white space becomes single spaces.
    """
    words = caption.split()
    keys = [word.casefold().strip(MARKS) for word in words]
    size = _repeated(keys)
    while size:
        keys, words = keys[:-size], words[:-size]
        size = _repeated(keys)
    return " ".join(words)


def _repeated(keys: Sequence[str]) -> int:
    """Length of the shortest phrase that ends the words twice in a row; 0 if there is none."""
    longest = min(len(keys) // 2, MAX_REPEATED)
    for size in range(1, longest + 1):
        if keys[-size:] == keys[-2 * size : -size]:
            return size
    return 0
