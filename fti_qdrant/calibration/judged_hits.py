"""Hits of which it is known whether they are right: what chances are fitted on."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from typing_extensions import Self

DEPTH = 10
"""Hits of each query that are judged, where nothing else is asked for."""


@dataclass(frozen=True)
class JudgedQueryHits:
    """The judged hits of one query.

    Attributes:
        group: queries of one group are alike, such as those with the same reference image; some of
            them say too much about the others to check these by.
        scores: cosines.
        right: whether each is a right answer.
    """

    group: str
    scores: Sequence[float]
    right: Sequence[bool]


@dataclass(frozen=True)
class JudgedHits:
    """The judged hits of all queries of one composer.

    Attributes:
        scores: float32 ``[N]``.
        right: ``[N]``.
        groups: ``[N]``, a number for the group of each hit's query: 0 up to their number, in an
            order that is the same for the same groups, and says nothing about them.
        queries: how many queries there are, those without hits too.
    """

    scores: NDArray[np.float32]
    right: NDArray[np.bool_]
    groups: NDArray[np.int64]
    queries: int

    @classmethod
    def of(cls, judged: Iterable[JudgedQueryHits]) -> Self:
        each = list(judged)
        names = sorted({one.group for one in each}, key=_shuffled)
        number = {name: place for place, name in enumerate(names)}
        return cls(
            np.array([score for one in each for score in one.scores], np.float32),
            np.array([right for one in each for right in one.right], bool),
            np.array([number[one.group] for one in each for _ in one.scores], np.int64),
            len(each),
        )

    def __len__(self) -> int:
        return len(self.scores)

    @property
    def right_count(self) -> int:
        return int(self.right.sum())


def _shuffled(name: str) -> bytes:
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
