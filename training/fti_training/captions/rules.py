"""A part-of-speech tagger for captions that needs no download: word lists, endings, neighbors.

It lists the words that end a phrase (prepositions, verbs, conjunctions) and the common words
before a noun; every other word is a noun. That is enough to find the first noun phrase of a
caption, and not for other English.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fti_training.captions.lexicon import (
    ADJECTIVES,
    CLOSED,
    ED_NOUNS,
    ING_COMPOUNDS,
    ING_NOUNS,
    IRREGULAR_PLURALS,
    LY_OTHERS,
    PARTICIPLES,
    PLURAL,
    VERBS,
)
from fti_training.captions.phrases import Token

WORD = re.compile(r"[^\W_]+(?:['’.&/-][^\W_]+)*['’]?|\S")
KEEPS_NOUN = frozenset({"NOUN", "NUM"})
ADJECTIVE_ENDINGS = ("ous", "ful", "less", "ish-looking", "-colored", "-coloured", "-like")


def tag(caption: str) -> list[Token]:
    """The caption's words and punctuation with universal part-of-speech tags."""
    matches = list(WORD.finditer(caption))
    words = [match.group().lower() for match in matches]
    tagger = _Tagger(words)
    return [
        Token(match.group(), match.start(), match.end(), tagger.next(number))
        for number, match in enumerate(matches)
    ]


class _Tagger:
    """Tags the words one after the other.

    Attributes:
        noun: the last noun of the current phrase; empty if it has none yet.
        plural: whether the phrase started with a word such as "two".
    """

    def __init__(self, words: Sequence[str]):
        self.words = words
        self.noun = ""
        self.plural = False

    def next(self, number: int) -> str:
        word = self.words[number]
        found = self._tag(number)
        if found == "NOUN":
            self.noun = word
        elif found not in KEEPS_NOUN:
            self.noun = ""
            self.plural = self.plural and found == "ADJ"
        self.plural = self.plural or word in PLURAL
        return found

    def _tag(self, number: int) -> str:
        word, after = self.words[number], self._word(number + 1)
        if not word[0].isalnum():
            return "PUNCT"
        if word[0].isdigit():
            return "NUM" if word.isdigit() else "ADJ"
        if word.endswith(("'s", "’s", "s'", "s’")) and word not in CLOSED:
            return "DET"
        if word in CLOSED:
            return CLOSED[word]
        if f"{word}-{after}" in ING_COMPOUNDS:
            return "NOUN"
        if word in ADJECTIVES or word.endswith(ADJECTIVE_ENDINGS):
            return "ADJ" if not self.noun or self._ends(number + 1) else "NOUN"
        if word.endswith("ing") and len(word) > 4:
            return self._ing(word, number)
        if self._is_participle(word):
            return "VERB" if self.noun else "ADJ"
        if word.endswith("ly") and word not in LY_OTHERS:
            return "ADV"
        return "VERB" if self._is_finite(word) else "NOUN"

    def _ing(self, word: str, number: int) -> str:
        """A noun ("a building"), or a verb: before the noun "a smiling boy", or after it."""
        article = CLOSED.get(self._word(number + 1)) in ("DET", "PRON")
        if word in ING_NOUNS:
            return "VERB" if self.noun and article else "NOUN"
        last = not self.noun and number > 0 and self._ends(number + 1)
        return "NOUN" if last and not article else "VERB"

    def _is_finite(self, word: str) -> bool:
        """A verb that agrees with the noun before it: "a dog runs", "two dogs run"."""
        if not self.noun:
            return False
        if word in VERBS:
            return self.noun in IRREGULAR_PLURALS or _ends_in_s(self.noun)
        third = word in {"flies", "lies", "carries", "tries"} or (
            _ends_in_s(word) and bool({word[:-1], word.removesuffix("es")} & VERBS)
        )
        return third and not self.plural and not _ends_in_s(self.noun)

    def _is_participle(self, word: str) -> bool:
        return word in PARTICIPLES or (word.endswith("ed") and word not in ED_NOUNS)

    def _ends(self, number: int) -> bool:
        """Whether no noun can follow: the end, punctuation, or a word of a closed class."""
        word = self._word(number)
        return not word or not word[0].isalnum() or word in CLOSED or word.endswith("ly")

    def _word(self, number: int) -> str:
        return self.words[number] if number < len(self.words) else ""


def _ends_in_s(word: str) -> bool:
    return word.endswith("s") and not word.endswith("ss")
