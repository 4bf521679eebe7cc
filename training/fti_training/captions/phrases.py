"""Where a tagged caption's subject ends: the first noun, with what belongs to it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from fti_training.captions.lexicon import JOINED, OF_NOUNS

NOUNS = frozenset({"NOUN", "PROPN"})
BEFORE_NOUN = frozenset({"DET", "ADJ", "NUM", "ADV", "VERB", "PRON", "CCONJ", "PUNCT"})
SOMEONE = frozenset({"someone", "somebody", "everyone", "something"})
POSSESSIVE = frozenset({"his", "her", "its", "their", "my", "your", "our"})
INSIDE = frozenset({",", "-", "–", '"', "'", "“", "”"})
"""Punctuation that may stand before the noun of a phrase: "a red, white and blue flag"."""

OPENER = re.compile(
    r"""\s*
    (?:(?:there|here|this|these|it|that)(?:\s+(?:is|are|was|were)|\s?['’]s)\s+)?
    (?:(?:(?:a|an|the|some)\s+)?
       (?:close[\s-]?up\s+)?
       (?:(?:photo|photograph|picture|image|view|shot|close[\s-]?up)s?\s+(?:of|showing)\s+))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""What captions open with that is not in the picture: "there is", "a close up of"."""


class Token(NamedTuple):
    """A word or a mark of a caption: its place there, and its universal part-of-speech tag."""

    text: str
    start: int
    end: int
    pos: str


def subject_span(caption: str, tokens: Sequence[Token]) -> tuple[int, int] | None:
    """Start and end, in characters, of the first noun with all that belongs to it.

    - Words before the noun stay: "two small brown dogs", "a smiling boy", "a man's hand".
    - Noun compounds stay whole: "a tennis player", not "a tennis".
    - Nouns of quantity, part and depiction go on to what they are of: "a group of people", "the
      front of a house", "a statue of a man".
    - Openers are left out: "there is", "a picture of", "a close up of".
    - Of things joined by "and" the first is the subject: "a cat" of "a cat and a dog on a bed".

    None where the caption does not open with such a phrase.
    """
    opened = OPENER.match(caption)
    after = opened.end() if opened else 0
    first = next((i for i, token in enumerate(tokens) if token.start >= after), len(tokens))
    last = _phrase_end(tokens, first)
    if last is None:
        return None
    while _lower(tokens, last) in OF_NOUNS and _lower(tokens, last + 1) == "of":
        inner = _phrase_end(tokens, last + 2)
        if inner is None:
            break
        last = inner
    return tokens[first].start, tokens[last].end


def _phrase_end(tokens: Sequence[Token], first: int) -> int | None:
    """The last noun of the phrase that begins at ``first``."""
    noun: int | None = None
    place = first
    while place < len(tokens):
        token = tokens[place]
        if (token.text.lower(), _lower(tokens, place + 1)) in JOINED:
            place += 1
            noun = place
        elif token.pos in NOUNS or token.text.lower() in SOMEONE:
            noun = place
        elif token.pos == "PART" and token.text in ("'s", "’s", "'", "’"):
            noun = None  # a possessor is not yet the noun: "a man 's hand"
        elif noun is None:
            if not _may_precede(tokens, place, first):
                return None
        elif token.text.isdigit():
            noun = place  # "a boeing 747"
        elif not (token.text == "-" or _joins(tokens, place)):
            break
        place += 1
    return noun


def _may_precede(tokens: Sequence[Token], place: int, first: int) -> bool:
    """Whether the word at ``place`` can stand before the noun of the phrase."""
    token = tokens[place]
    before = tokens[place - 1].pos if place > first else ""
    if token.pos == "PUNCT":
        return token.text in INSIDE
    if token.pos == "PRON":
        return token.text.lower() in POSSESSIVE
    if token.pos == "CCONJ":
        return place > first
    if token.pos == "DET":  # "riding a horse", "outdoors, a man"
        return before not in ("VERB", "PUNCT")
    return token.pos in BEFORE_NOUN


def _joins(tokens: Sequence[Token], place: int) -> bool:
    """Whether a participle belongs to the noun that follows it: "a brick walled house"."""
    token, following = tokens[place], tokens[place + 1 : place + 2]
    return (
        token.pos in ("VERB", "ADJ")
        and token.text.lower().endswith("ed")
        and any(one.pos in NOUNS for one in following)
    )


def _lower(tokens: Sequence[Token], place: int) -> str:
    return tokens[place].text.lower() if place < len(tokens) else ""
