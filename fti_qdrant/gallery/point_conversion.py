"""Our points <-> those of Qdrant Edge and qdrant-client, whose attributes have the same names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from fti_qdrant.gallery.layout import UNNAMED, CollectionLayout
from fti_qdrant.gallery.point_ids import StoredId, stored_form
from fti_qdrant.gallery.points import GalleryPoint, GallerySpec, ScoredPoint, StoredImage


def point_vectors(point: GalleryPoint, layout: CollectionLayout) -> Any:
    """A point's vectors by name, as lists; the list alone where it has no name."""
    image = point.vector.tolist()
    words = point.words is not None and layout.words_collection is None
    if layout.image_vector == UNNAMED and not words:
        return image
    vectors: dict[str, Any] = {layout.image_vector: image}
    if words:
        assert point.words is not None
        vectors[layout.words_vector] = point.words.tolist()
    return vectors


def vector_names(spec: GallerySpec, *, words: bool = False) -> Any:
    """The image vector, and with ``words`` the pseudo-words, as a request for vectors names them.

    An unnamed vector cannot be named: True asks for all.
    """
    layout = spec.layout
    if layout.image_vector == UNNAMED:
        return True
    stored = words and spec.words is not None and layout.words_collection is None
    return [layout.image_vector, *([layout.words_vector] if stored else [])]


def scored_point(point: Any, layout: CollectionLayout) -> ScoredPoint:
    """An engine's search result."""
    vector = _named(point.vector).get(layout.image_vector)
    return ScoredPoint(
        stored_form(point.id),
        float(point.score),
        point.payload or {},
        None if vector is None else np.asarray(vector, dtype=np.float32),
    )


def stored_images(records: Iterable[Any], layout: CollectionLayout) -> dict[StoredId, StoredImage]:
    """An engine's records by id, read with their vectors.

    Points without an image vector, which other programs may store beside images, are left out.
    """
    found = {}
    for record in records:
        vectors = _named(record.vector)
        image, words = vectors.get(layout.image_vector), vectors.get(layout.words_vector)
        if image is None:
            continue
        id = stored_form(record.id)
        found[id] = StoredImage(
            id,
            record.payload or {},
            np.asarray(image, dtype=np.float32),
            None if words is None else np.asarray(words, dtype=np.float32),
        )
    return found


def _named(vectors: Any) -> dict[str, Any]:
    """Vectors by name; empty where none were requested."""
    if vectors is None or isinstance(vectors, dict):
        return vectors or {}
    return {UNNAMED: vectors}
