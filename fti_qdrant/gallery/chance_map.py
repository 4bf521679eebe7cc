"""A monotone map from the cosine of a hit to the chance that the hit is right."""

from __future__ import annotations

from bisect import bisect_left
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pydantic import BaseModel, ConfigDict, Field, model_validator

BEYOND = 2.0
"""A cosine that no hit has."""


class ChanceMap(BaseModel):
    """Knots, straight lines between them, and the outermost chances beyond them.

    A higher cosine never has a lower chance, so the order of hits stays as it is. Cosines are taken
    as float32, in which engines compute them.

    Attributes:
        cosines: of the knots, strictly increasing.
        chances: of the knots, 0 to 1, never decreasing.

    Example:
        >>> chances = ChanceMap(cosines=(-1.0, 0.5, 0.75), chances=(0.0, 0.25, 0.75))
        >>> chances.at([0.5, 0.625, 0.9]).tolist()
        [0.25, 0.5, 0.75]
        >>> chances.least_cosine(0.5), chances.least_cosine(0.8)
        (0.625, 2.0)
    """

    model_config = ConfigDict(frozen=True)

    cosines: tuple[float, ...] = Field(min_length=1)
    chances: tuple[float, ...]

    @model_validator(mode="after")
    def _is_monotone(self) -> ChanceMap:
        cosines, chances = np.array(self.cosines), np.array(self.chances)
        if len(cosines) != len(chances):
            raise ValueError(f"{len(cosines)} cosines and {len(chances)} chances")
        if not (np.abs(cosines) <= BEYOND).all() or not (np.diff(cosines) > 0).all():
            raise ValueError("cosines must increase, from -1 to 1")
        if not ((chances >= 0) & (chances <= 1)).all() or not (np.diff(chances) >= 0).all():
            raise ValueError("chances must not decrease, from 0 to 1")
        return self

    def at(self, cosines: ArrayLike) -> NDArray[np.float64]:
        """The chances of hits: ``[N]`` cosines -> ``[N]``, each 0 to 1."""
        scores = np.asarray(cosines, np.float32).astype(np.float64)
        knots, chances, slopes = self._arrays
        left = np.clip(np.searchsorted(knots, scores, side="right") - 1, 0, len(knots) - 1)
        right = np.minimum(left + 1, len(knots) - 1)
        # bounded, so that rounding errors cannot break the order from one line to the next
        lines = chances[left] + slopes[left] * (scores - knots[left])
        return np.clip(lines, chances[left], chances[right])

    def of(self, cosine: float) -> float:
        """The chance of one hit."""
        return float(self.at([cosine])[0])

    def least_cosine(self, chance: float) -> float:
        """The least cosine whose chance is at least this one; ``BEYOND`` where there is none.

        Exactly the hits with at least this cosine have at least this chance.
        """
        every = range(-_order(BEYOND), _order(BEYOND))
        return _from_order(every[0] + bisect_left(every, chance, key=lambda n: self._at_order(n)))

    def _at_order(self, order: int) -> float:
        return self.of(_from_order(order))

    @cached_property
    def _arrays(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Cosines, chances, and the slope that begins at each knot."""
        knots, chances = np.array(self.cosines), np.array(self.chances)
        slopes = np.diff(chances, append=chances[-1]) / np.diff(knots, append=knots[-1] + 1)
        return knots, chances, slopes


def _order(value: float) -> int:
    """The place of a float32, 0 or above, among all float32 numbers, that of 0 being 0."""
    return int(np.float32(value).view(np.int32))


def _from_order(order: int) -> float:
    value = float(np.int32(abs(order)).view(np.float32))
    return -value if order < 0 else value
