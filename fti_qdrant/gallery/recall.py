"""Recall of a gallery's approximate searches, measured on its own images.

Quantized vectors and an approximate index find most of the nearest images, not all of them. How
many depends on the vectors, so it is measured: stored images are asked for their nearest neighbors,
once as every search asks, and once by comparing with every vector.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fti_qdrant.errors import BadQuery
from fti_qdrant.gallery.collection_config import OVERSAMPLING, CollectionConfig
from fti_qdrant.gallery.point_ids import StoredId
from fti_qdrant.gallery.points import ScoredPoint
from fti_qdrant.gallery.protocol import Gallery, VectorQuery

NEIGHBORS = 10
IMAGES = 100
LEAST_RECALL = 0.95
"""Below this, what to change is said."""

TOGETHER = 10
"""Queries of one request. Each compares with every vector: more could take longer than a request
may."""

LONGEST = 60.0
"""Seconds; of a very large gallery fewer images are asked than were to be."""

NORMAL_95 = 1.959964
"""Quantile of the normal distribution for an interval of 95 %."""


@dataclass(frozen=True)
class Recall:
    """Share of the true nearest images that approximate searches find.

    Attributes:
        value: 0 to 1.
        low, high: 95 % interval, see ``wilson``.
        images: that were asked for their neighbors.
        neighbors: of each.
        exact: the gallery compares with every vector, so nothing was measured.
    """

    value: float
    low: float
    high: float
    images: int
    neighbors: int = NEIGHBORS
    exact: bool = False

    def __str__(self) -> str:
        if self.exact:
            return "1.0; an embedded gallery compares with every vector"
        return (
            f"{self.value:.3f} (95 % interval {self.low:.3f} to {self.high:.3f}, by Wilson, "
            f"{self.images:,} images)"
        )


def measure_recall(
    gallery: Gallery, images: int = IMAGES, neighbors: int = NEIGHBORS, longest: float = LONGEST
) -> Recall:
    """Asks stored images, drawn at random, for their nearest others.

    The image itself does not count. Where several images have the score of the last neighbor, each
    of them counts as that one. A composed query lies further from the images than they do from each
    other, and may find less.

    Args:
        images: how many are asked.
        neighbors: K of recall@K.
        longest: seconds after which no further image is asked.

    Raises BadQuery (fewer than two images, or ``images`` below 1), GalleryUnavailable.
    """
    if images < 1 or neighbors < 1:
        raise BadQuery(f"recall needs at least 1 image and 1 neighbor, got {images}, {neighbors}")
    if gallery.exact_by_default:
        return Recall(1.0, 1.0, 1.0, 0, neighbors, exact=True)
    others = gallery.count() - 1
    if others < 1:
        raise BadQuery(f"recall needs at least two images; gallery {gallery.name} has {others + 1}")
    neighbors = min(neighbors, others)
    drawn = list(gallery.random_vectors(images).items())
    shares: list[float] = []
    began = time.monotonic()
    for start in range(0, len(drawn), TOGETHER):
        shares += _shares(gallery, drawn[start : start + TOGETHER], neighbors)
        if time.monotonic() - began > longest:
            break
    value = float(np.mean(shares))
    return Recall(value, *wilson(value, len(shares)), len(shares), neighbors)


def wilson(share: float, trials: int) -> tuple[float, float]:
    """Wilson's 95 % interval of a mean share.

    Each image is one trial, not each of its neighbors: these are found or missed together. A mean
    of shares varies less than a mean of hits and misses, so the interval is rather too wide.

    Example:
        >>> [round(bound, 3) for bound in wilson(1.0, 100)]
        [0.963, 1.0]
    """
    square = NORMAL_95**2 / trials
    middle = (share + square / 2) / (1 + square)
    half = math.sqrt(square * (share * (1 - share) + square / 4)) / (1 + square)
    return max(0.0, middle - half), min(1.0, middle + half)


def recall_advice(recall: Recall, storage: CollectionConfig) -> str | None:
    """What to change where the recall is low; None where it is not."""
    if recall.value >= LEAST_RECALL:
        return None
    kind = storage.quantization
    finer = [name for name in OVERSAMPLING if 1 < OVERSAMPLING[name] < OVERSAMPLING.get(kind, 0)]
    steps = ['search_params={"hnsw_ef": 512}']
    if kind != "none":
        more = 2 * OVERSAMPLING[kind]
        steps.insert(
            0,
            f'search_params={{"quantization": {{"rescore": true, "oversampling": {more:g}}}}}',
        )
        if finer:
            steps.append(f"a new collection with --quantization {' or '.join(finer)}")
    steps.append("a denser index (update_collection with hnsw_config m=32, ef_construct=200)")
    return (
        f"recall@{recall.neighbors} is below {LEAST_RECALL}: approximate searches miss some of the "
        f"nearest images. Try, in this order: {'; '.join(steps)}. exact=True misses none"
    )


def _shares(
    gallery: Gallery, drawn: Sequence[tuple[StoredId, np.ndarray]], neighbors: int
) -> list[float]:
    """The share of the true neighbors that each image finds."""
    asked = [VectorQuery(vector, limit=neighbors + 1, payload_fields=()) for _, vector in drawn]
    found = gallery.search_many([replace(query, exact=False) for query in asked])
    true = gallery.search_many([replace(query, exact=True) for query in asked])
    return [
        _share(_others(id, near, neighbors), _others(id, nearest, neighbors))
        for (id, _), near, nearest in zip(drawn, found, true)
    ]


def _others(id: StoredId, hits: Sequence[ScoredPoint], neighbors: int) -> list[ScoredPoint]:
    return [hit for hit in hits if hit.id != id][:neighbors]


def _share(found: Sequence[ScoredPoint], true: Sequence[ScoredPoint]) -> float:
    if not true:  # deleted meanwhile
        return 1.0
    ids, last = {hit.id for hit in true}, true[-1].score
    right = sum(hit.id in ids or hit.score >= last for hit in found)
    return min(right / len(true), 1.0)
