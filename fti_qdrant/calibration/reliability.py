"""How far stated chances are from what happened: calibration error, Brier score, a diagram."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel

BINS = 15
"""Of equal width, as Guo et al. (ICML 2017) have them."""


class ReliabilityBin(BaseModel):
    """The hits whose stated chance is in one bin.

    Attributes:
        confidence: the mean of their stated chances.
        right: the share that is right.
        hits: how many there are, at least one.
    """

    confidence: float
    right: float
    hits: int


class Reliability(BaseModel):
    """How reliable stated chances are.

    Attributes:
        ece: expected calibration error: the mean over hits of the distance between their bin's
            share of right hits and its mean stated chance (Guo et al., ICML 2017).
        brier: mean squared distance between the stated chance and 1 (right) or 0 (wrong).
        base_brier: of stating for every hit the share of all hits that is right; a map that says
            anything about single hits is below it.
        hits, right: how many hits were judged, and how many of them are right.
        bins: those that are not empty, by their chances.
    """

    ece: float
    brier: float
    base_brier: float
    hits: int
    right: int
    bins: list[ReliabilityBin]


def reliability(stated: NDArray[np.float64], right: NDArray[np.bool_]) -> Reliability:
    """Compares chances with what happened.

    Args:
        stated: chances ``[N]``, 0 to 1, at least one.
        right: ``[N]``.

    Example:
        >>> found = reliability(np.array([0.5, 0.5, 0.9]), np.array([True, False, False]))
        >>> round(found.ece, 3), round(found.brier, 3)
        (0.3, 0.437)
    """
    outcome = right.astype(np.float64)
    place = np.minimum((stated * BINS).astype(np.int64), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    filled = np.flatnonzero(counts)
    means = np.bincount(place, stated, BINS)[filled] / counts[filled]
    shares = np.bincount(place, outcome, BINS)[filled] / counts[filled]
    base = outcome.mean()
    return Reliability(
        ece=float((counts[filled] * np.abs(means - shares)).sum() / len(stated)),
        brier=float(((stated - outcome) ** 2).mean()),
        base_brier=float(base * (1 - base)),
        hits=len(stated),
        right=int(right.sum()),
        bins=[
            ReliabilityBin(confidence=float(mean), right=float(share), hits=int(count))
            for mean, share, count in zip(means, shares, counts[filled])
        ],
    )
