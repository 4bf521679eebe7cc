"""A caption's two parts: the subject, up to the first noun, and the attributes, the rest."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from fti_qdrant.errors import FtiError
from fti_training.captions import rules
from fti_training.captions.phrases import Token, subject_span
from fti_training.split_caption import SplitCaption

MIN_WORDS = 4
"""Captions of fewer words are dropped, as in the paper."""

LONGEST_RUN = 12
"""Words of one repetition at a caption's end; two of them fill what a captioner may write."""

RULES_NAME = "rules 1"
MARKS = ' \t\n\r,;:.!?-–"“”'


@dataclass(frozen=True)
class Splitter:
    """Splits captions by the tags of one tagger.

    Both taggers share one rule for where the subject ends: see ``phrases.subject_span``.

    Attributes:
        name: the tagger with its version, for the metadata of what it made.
        tag: caption -> its words with universal part-of-speech tags.
    """

    name: str
    tag: Callable[[str], Sequence[Token]]

    def __call__(self, caption: str) -> SplitCaption | None:
        """The two parts; None under 4 words, without a subject, or with nothing after it."""
        if len(caption.split()) < MIN_WORDS:
            return None
        span = subject_span(caption, self.tag(caption))
        if span is None:
            return None
        subject = caption[slice(*span)].strip(MARKS)
        attributes = caption[span[1] :].strip(MARKS)
        if not subject or not re.search(r"\w", attributes):
            return None
        return SplitCaption(subject, attributes)


def choose_splitter() -> Splitter:
    """spaCy's tagger where an English model of it is installed, else the built-in rules.

    Raises FtiError where such a model is installed and cannot be loaded.
    """
    try:
        import spacy
    except ImportError:
        return rule_splitter()
    installed = [one for one in spacy.util.get_installed_models() if one.startswith("en_")]
    if not installed:
        return rule_splitter()
    name = min(installed, key=len)  # the small one: its tags are as good here, and quicker
    try:
        model = spacy.load(name, exclude=["parser", "ner", "lemmatizer"])
    except Exception as error:  # each version of a model fails in its own way
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise FtiError(
            f"spaCy's model {name} cannot be loaded ({reason}); install the one for this spaCy, "
            "or uninstall it: the built-in splitter needs none"
        ) from error
    return spacy_splitter(model)


def rule_splitter() -> Splitter:
    """The built-in one; needs no download."""
    return Splitter(RULES_NAME, rules.tag)


def spacy_splitter(model: Any) -> Splitter:
    """By the tags of a spaCy pipeline with a tagger."""

    def tag(caption: str) -> list[Token]:
        return [
            Token(token.text, token.idx, token.idx + len(token), token.pos_)
            for token in model(caption)
        ]

    return Splitter(f"spacy {model.meta['lang']}_{model.meta['name']} {model.meta['version']}", tag)


def cut_repeated_end(caption: str) -> str:
    """Cuts what a captioner repeats at the end: "with red hair hair hair" -> "with red hair".

    Runs of up to 12 words count, case and commas aside; white space becomes single spaces.
    """
    words = caption.split()
    keys = [word.casefold().strip(MARKS) for word in words]
    size = _run(keys)
    while size:
        keys, words = keys[:-size], words[:-size]
        size = _run(keys)
    return " ".join(words)


def _run(keys: Sequence[str]) -> int:
    """Length of the shortest run that ends the words and stands before itself; 0 without."""
    longest = min(len(keys) // 2, LONGEST_RUN)
    for size in range(1, longest + 1):
        if keys[-size:] == keys[-2 * size : -size]:
            return size
    return 0
