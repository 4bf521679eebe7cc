"""Liked and disliked images beside a composed query: relevance feedback after Rocchio."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from fti_qdrant.composition import ComposedQuery
from fti_qdrant.errors import BadQuery
from fti_qdrant.gallery import StoredImage
from fti_qdrant.gallery.point_ids import StoredId
from fti_qdrant.query import Query
from fti_qdrant.reference_ids import Reference, stored_id

LIKE_WEIGHT, DISLIKE_WEIGHT = 0.75, 0.15
"""The usual weights beside 1 for the query (Manning, Raghavan and Schuetze, Introduction to
Information Retrieval, 2008, section 9.1.1)."""


def with_feedback(
    queries: Sequence[Query],
    composed: Sequence[ComposedQuery],
    rated: Mapping[StoredId, StoredImage],
) -> list[ComposedQuery]:
    """Each composed query, moved by the images that its query likes and dislikes.

    Args:
        rated: these images, by id.
    """

    def vectors(references: Sequence[Reference]) -> list[np.ndarray]:
        ids = dict.fromkeys(stored_id(one) for one in references)
        return [rated[id].vector for id in ids if id is not None]

    return [
        moved(one, vectors(query.liked), vectors(query.disliked))
        for query, one in zip(queries, composed)
    ]


def moved(
    query: ComposedQuery, liked: Sequence[np.ndarray], disliked: Sequence[np.ndarray]
) -> ComposedQuery:
    """The query moved towards the liked images and away from the disliked ones.

    ``normalize(q + 0.75 mean(liked) - 0.15 mean(disliked))``, where q and all images are of unit
    length (Rocchio, 1971).

    Args:
        liked, disliked: vectors ``[d]`` of stored images, of unit length.

    Raises BadQuery where nothing of the query would be left.
    """
    if not len(liked) and not len(disliked):
        return query
    vector = query.unit_vector.astype(np.float64)
    if len(liked):
        vector = vector + LIKE_WEIGHT * np.mean(liked, axis=0, dtype=np.float64)
    if len(disliked):
        vector = vector - DISLIKE_WEIGHT * np.mean(disliked, axis=0, dtype=np.float64)
    length = float(np.linalg.norm(vector))
    if length < 1e-6:
        raise BadQuery("the liked and disliked images cancel the query; leave some of them out")
    return replace(query, vector=(vector / length).astype(np.float32))
