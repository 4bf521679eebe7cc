"""Finds the subject of a tagged caption: the first noun, with the words that belong to it."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from fti_training.captions.lexicon import JOINED, OF_NOUNS

NOUNS = frozenset({"NOUN", "PROPN"})
BEFORE_NOUN = frozenset({"DET", "ADJ", "NUM", "ADV", "VERB", "PRON", "CCONJ", "PUNCT"})
SOMEONE = frozenset({"someone", "somebody", "everyone", "something"})
POSSESSIVE = frozenset({"his", "her", "its", "their", "my", "your", "our"})
INSIDE = frozenset({",", "-", "–", '"', "'"})
"""Punctuation that may stand before the noun of a phrase: "a red, white and blue flag"."""

DECORATION = frozenset({"Pi", "Pf", "Ps", "Pe", "Sc", "Sk", "Sm", "So", "Cf", "Mn", "Me"})
"""Unicode categories that may stand there, too: quotes and brackets of any script, symbols, emoji
and their parts."""

LEAD = re.compile(
    r"""(?:
        [0-9#*]\ufe0f?\u20e3           # keycap emoji
        | \d{1,3}[.)](?=\s)            # the number of a list: "1. a dog"
        | [\u2460-\u24ff\u2776-\u2793\u3200-\u32ff\U0001f100-\U0001f1ff]  # numbers in circles
        | [^\w]
        | _
    )*""",
    re.VERBOSE,
)
"""What a caption may begin with before its first word: quotes, dashes, bullets, emoji, blanks."""

OPENER = re.compile(
    r"""\s*
    (?:(?:there|here|this|these|it|that)(?:\s+(?:is|are|was|were)|\s?['’]s)\s+)?
    (?:(?:(?:a|an|the|some)\s+)?
       (?:close[\s-]?up\s+)?
       (?:(?:photo|photograph|picture|image|view|shot|close[\s-]?up)s?\s+(?:of|showing)\s+))?
    """,
    re.VERBOSE | re.IGNORECASE,
)
"""Openings that do not describe the picture: "there is", "a close up of"."""


class Token(NamedTuple):
    """A word or punctuation mark: its position, and its universal part-of-speech tag."""

    text: str
    start: int
    end: int
    pos: str


def subject_span(caption: str, tokens: Sequence[Token]) -> tuple[int, int] | None:
    """Start and end, in characters, of the first noun with the words that belong to it.

    - Words before the noun are kept: "two small brown dogs", "a smiling boy", "a man's hand".
    - Compound nouns are kept together: "a tennis player", not "a tennis".
    - Nouns of quantity, part and depiction include what follows "of": "a group of people", "the
      front of a house", "a statue of a man".
    - Openings are left out: "there is", "a picture of", "a close up of"; so is every mark or symbol
      before the first word, and between an opening and what follows it.
    - Of nouns joined by "and" the first is the subject: "a cat" in "a cat and a dog on a bed".

    None where the caption does not start with such a phrase.
    """
    after = _end(LEAD, caption, _end(OPENER, caption, _end(LEAD, caption, 0)))
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
    """Index of the last noun of the phrase that starts at ``first``."""
    noun: int | None = None
    index = first
    while index < len(tokens):
        token = tokens[index]
        if (token.text.lower(), _lower(tokens, index + 1)) in JOINED:
            index += 1
            noun = index
        elif token.pos in NOUNS or token.text.lower() in SOMEONE:
            noun = index
        elif token.pos == "PART" and token.text in ("'s", "’s", "'", "’"):
            noun = None  # a possessor is not yet the noun: "a man 's hand"
        elif noun is None:
            if not _may_precede(tokens, index, first):
                return None
        elif token.text.isdigit():
            noun = index  # "a boeing 747"
        elif not (token.text == "-" or _joins(tokens, index)):
            break
        index += 1
    return noun


def _may_precede(tokens: Sequence[Token], index: int, first: int) -> bool:
    """Whether the word at ``index`` can precede the noun of the phrase."""
    token = tokens[index]
    before = tokens[index - 1].pos if index > first else ""
    if token.pos == "PUNCT":
        return token.text in INSIDE or is_decoration(token.text)
    if token.pos == "PRON":
        return token.text.lower() in POSSESSIVE
    if token.pos == "CCONJ":
        return index > first
    if token.pos == "DET":  # "riding a horse", "outdoors, a man"
        return before not in ("VERB", "PUNCT")
    return token.pos in BEFORE_NOUN


def is_decoration(text: str) -> bool:
    """Whether a token is quotes, brackets, symbols or emoji alone.

    Example:
        >>> [is_decoration(text) for text in ("«", "🔥", ".", "dog")]
        [True, True, False, False]
    """
    return all(unicodedata.category(character) in DECORATION for character in text)


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _joins(tokens: Sequence[Token], index: int) -> bool:
    """Whether a participle belongs to the noun that follows it: "a brick walled house"."""
    token, following = tokens[index], tokens[index + 1 : index + 2]
    return (
        token.pos in ("VERB", "ADJ")
        and token.text.lower().endswith("ed")
        and any(one.pos in NOUNS for one in following)
    )


def _lower(tokens: Sequence[Token], index: int) -> str:
    return tokens[index].text.lower() if index < len(tokens) else ""
