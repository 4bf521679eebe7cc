"""Composed queries whose answers follow from Unicode: one facet of an emoji changes."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from fti_qdrant.benchmarks.emoji.facts import Emoji
from fti_qdrant.benchmarks.emoji.wordings import Wordings, fill, slots_of

KNOWN_WORDINGS: Wordings = {
    "gender": ("as a {value}", "now a {value}", "a {value} instead"),
    "tone": ("with {value}", "now with {value}", "with {value} instead"),
    "hair": ("with {value}", "now with {value}", "with {value} instead"),
    "direction": ("{value}", "now {value}", "{value} instead"),
    "color": ("in {value}", "now {value}", "{value} instead"),
    "time": ("at {value}", "now at {value}", "at {value} instead"),
}
"""Wordings of an edit that the mini model's training used too."""

UNSEEN_WORDINGS: Wordings = {
    "gender": ("the person is changed to a {value}", "has become a {value}"),
    "tone": ("the skin is changed to {value}", "has {value}"),
    "hair": ("the hair is changed to {value}", "has {value}"),
    "direction": ("the view is changed to {value}", "has turned, {value}"),
    "color": ("the colour is changed to {value}", "has {value} as its colour"),
    "time": ("the time is changed to {value}", "has its hands at {value}"),
}
"""Wordings that no training caption contains; they are a part of the unused paraphrases too."""

PARAPHRASES = 6
"""Unused paraphrases in which each edit is asked."""


@dataclass(frozen=True)
class Edit:
    """A composed query with its one right answer, both in the same artwork.

    Attributes:
        reference, target: emoji of one family, different in one facet only.
        facet: the facet that changes, to a value that the target's sequence states.
    """

    reference: Emoji
    target: Emoji
    facet: str

    @property
    def value(self) -> str:
        return self.target.facets[self.facet]

    def wording(self, wordings: Wordings = KNOWN_WORDINGS) -> str:
        """The modification text; a hash of the two sequences chooses the wording."""
        choices = wordings[self.facet]
        return choices[self._hash()[0] % len(choices)].format(value=self.value)

    def all_wordings(self, wordings: Wordings) -> list[str]:
        """The modification texts of every template whose slots the edit can fill."""
        slots = slots_of(self.facet, self.reference, self.target)
        filled = (fill(template, slots) for template in wordings[self.facet])
        return [text for text in filled if text is not None]

    def some_wordings(self, wordings: Wordings, count: int) -> list[str]:
        """``count`` of them; a hash of the two sequences and the text chooses."""
        return sorted(self.all_wordings(wordings), key=self._hash)[:count]

    def _hash(self, text: str = "") -> bytes:
        return hashlib.sha256(f"{self.reference.key}>{self.target.key}{text}".encode()).digest()


def families(emoji: Iterable[Emoji]) -> dict[str, list[Emoji]]:
    """Family -> its emoji, which are edits of each other."""
    groups: dict[str, list[Emoji]] = defaultdict(list)
    for one in emoji:
        groups[one.family].append(one)
    return dict(groups)


def edits(emoji: Iterable[Emoji]) -> Iterator[Edit]:
    """Every ordered pair of a family that differs in one facet, which the target states."""
    for family in families(emoji).values():
        for target in family:
            for reference in family:
                changed = changed_facets(reference, target)
                if len(changed) == 1 and changed[0] in target.facets:
                    yield Edit(reference, target, changed[0])


def changed_facets(reference: Emoji, target: Emoji) -> list[str]:
    """The facets in which two emoji of one family differ."""
    names = {**reference.facets, **target.facets}
    return [name for name in names if reference.facets.get(name) != target.facets.get(name)]
