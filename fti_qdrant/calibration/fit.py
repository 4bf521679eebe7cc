"""Judged hits -> a monotone map from their cosines to the chance that they are right.

Isotonic regression finds, of all maps that never decrease, the one with the least squared error
(Zadrozny and Elkan, KDD 2002, use it to calibrate classifiers). It is a step function. Centered
isotonic regression (Oron and Flournoy, Stat. Biopharm. Res. 2017) puts each step's chance at the
mean cosine of its hits and draws straight lines between these, so that different cosines have
different chances, and its bias is smaller.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
from numpy.typing import NDArray

from fti_qdrant.calibration.judged_hits import JudgedHits
from fti_qdrant.calibration.reliability import Reliability, reliability
from fti_qdrant.errors import BadCalibration
from fti_qdrant.gallery.calibration import ComposerCalibration, QueryMaker
from fti_qdrant.gallery.chance_map import ChanceMap

LEAST_QUERIES, LEAST_OF_EACH = 30, 10
"""Queries, and right and wrong hits of them, that a map needs."""

FOLDS = 5

LOWEST = -1.0
"""Cosine at which the chance is 0: below all judged hits it falls in a straight line to that."""


@dataclass(frozen=True)
class Source:
    """Where judged hits come from, as ``ComposerCalibration`` says it."""

    fitted_on: str
    depth: int
    most_references: int


def fit_chances(scores: NDArray[np.float32], right: NDArray[np.bool_]) -> ChanceMap:
    """Centered isotonic regression of whether hits are right on their cosines.

    One more wrong hit is counted at the highest cosine and one more right one at the lowest, so
    that no finite number of hits makes a chance 0 or 1.

    Args:
        scores: cosines ``[N]``, at least one.
        right: ``[N]``.
    """
    from scipy.optimize import isotonic_regression

    cosines, place = np.unique(scores.astype(np.float64), return_inverse=True)
    counts, found = np.bincount(place).astype(np.float64), np.bincount(place, weights=right)
    counts[0] += 1
    found[0] += 1
    counts[-1] += 1
    steps = isotonic_regression(found / counts, weights=counts).x
    starts = np.flatnonzero(np.diff(steps, prepend=-1.0) > 0)
    centers = np.add.reduceat(cosines * counts, starts) / np.add.reduceat(counts, starts)
    chances = np.clip(steps[starts], 0, 1)
    if centers[0] > LOWEST:
        centers, chances = np.insert(centers, 0, LOWEST), np.insert(chances, 0, 0.0)
    return ChanceMap(cosines=tuple(centers.tolist()), chances=tuple(chances.tolist()))


def out_of_fold(hits: JudgedHits) -> NDArray[np.float64]:
    """The chance of each hit by a map that was fitted without its group: ``[N]``.

    Args:
        hits: of at least two groups.
    """
    folds = hits.groups % FOLDS
    chances = np.zeros(len(hits))
    for fold in np.unique(folds):
        held_out = folds == fold
        fitted = fit_chances(hits.scores[~held_out], hits.right[~held_out])
        chances[held_out] = fitted.at(hits.scores[held_out])
    return chances


def measured(hits: JudgedHits) -> Reliability:
    """How reliable the chances are on queries that they were not fitted on.

    Raises BadCalibration where there is too little to fit and check them.
    """
    check_enough(hits)
    return reliability(out_of_fold(hits), hits.right)


def fit_calibration(hits: JudgedHits, maker: QueryMaker, source: Source) -> ComposerCalibration:
    """Fits and checks the chances of one composer.

    Raises BadCalibration where there is too little to do so.
    """
    checked = measured(hits)
    return ComposerCalibration(
        maker=maker,
        chances=fit_chances(hits.scores, hits.right),
        depth=source.depth,
        queries=hits.queries,
        hits=len(hits),
        right=hits.right_count,
        most_references=source.most_references,
        fitted_on=source.fitted_on,
        ece=checked.ece,
        brier=checked.brier,
        made=datetime.now(timezone.utc),
    )


def check_enough(hits: JudgedHits) -> None:
    """Raises BadCalibration, which says what is missing and what to do."""
    wrong = len(hits) - hits.right_count
    if hits.queries < LEAST_QUERIES:
        raise BadCalibration(
            f"{hits.queries} judged queries are too few, at least {LEAST_QUERIES} are needed; "
            "collect more"
        )
    if hits.right_count < LEAST_OF_EACH:
        raise BadCalibration(
            f"only {hits.right_count} of {len(hits)} judged hits are right, at least "
            f"{LEAST_OF_EACH} are needed; collect more queries, or judge more hits of each (depth)"
        )
    if wrong < LEAST_OF_EACH:
        raise BadCalibration(
            f"only {wrong} of {len(hits)} judged hits are wrong, at least {LEAST_OF_EACH} are "
            "needed; judge more hits of each query (depth), and say which were shown and not chosen"
        )
    if len(np.unique(hits.groups % FOLDS)) < 2:
        raise BadCalibration(
            "all judged queries have the same reference image, so that the chances cannot be "
            "checked on others; collect queries with other images"
        )
