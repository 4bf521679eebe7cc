"""Our points <-> those of Qdrant Edge and qdrant-client, whose attributes have the same names."""

from __future__ import annotations

from typing import Any

import numpy as np

from fti_qdrant.gallery.points import (
    IMAGE_VECTOR,
    WORDS_VECTOR,
    GalleryPoint,
    ScoredPoint,
    StoredImage,
)


def point_vectors(point: GalleryPoint) -> dict[str, Any]:
    """A point's vectors by name, as lists."""
    vectors: dict[str, Any] = {IMAGE_VECTOR: point.vector.tolist()}
    if point.words is not None:
        vectors[WORDS_VECTOR] = point.words.tolist()
    return vectors


def scored_point(point: Any) -> ScoredPoint:
    """An engine's search result."""
    vector = _named(point.vector).get(IMAGE_VECTOR)
    return ScoredPoint(
        str(point.id),
        float(point.score),
        point.payload or {},
        None if vector is None else np.asarray(vector, dtype=np.float32),
    )


def stored_image(record: Any) -> StoredImage:
    """An engine's record, read with its vectors."""
    vectors = _named(record.vector)
    words = vectors.get(WORDS_VECTOR)
    return StoredImage(
        str(record.id),
        record.payload or {},
        np.asarray(vectors[IMAGE_VECTOR], dtype=np.float32),
        None if words is None else np.asarray(words, dtype=np.float32),
    )


def _named(vectors: Any) -> dict[str, Any]:
    """Vectors by name; empty where none were requested."""
    return vectors if isinstance(vectors, dict) else {}
