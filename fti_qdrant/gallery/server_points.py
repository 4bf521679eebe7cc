"""Points and collections as qdrant-client has them."""

from __future__ import annotations

from typing import Any

import numpy as np
from qdrant_client import models

from fti_qdrant.gallery.points import (
    IMAGE_VECTOR,
    WORDS_VECTOR,
    GalleryPoint,
    GallerySpec,
    ScoredPoint,
    StoredImage,
)
from fti_qdrant.gallery.storage import CollectionStorage


def vectors_config(spec: GallerySpec, storage: CollectionStorage) -> dict[str, models.VectorParams]:
    config = {IMAGE_VECTOR: storage.vector(spec.fingerprint.dim)}
    if spec.words:
        config[WORDS_VECTOR] = models.VectorParams(
            size=spec.words.token_dim,
            distance=models.Distance.DOT,
            on_disk=True,
            datatype=models.Datatype.FLOAT16,
            multivector_config=models.MultiVectorConfig(
                comparator=models.MultiVectorComparator.MAX_SIM
            ),
            hnsw_config=models.HnswConfigDiff(m=0),
        )
    return config


def struct(point: GalleryPoint) -> models.PointStruct:
    vectors: dict[str, Any] = {IMAGE_VECTOR: point.vector.tolist()}
    if point.words is not None:
        vectors[WORDS_VECTOR] = point.words.tolist()
    return models.PointStruct(id=point.id, vector=vectors, payload=point.payload)


def scored(point: models.ScoredPoint) -> ScoredPoint:
    vector = point.vector[IMAGE_VECTOR] if isinstance(point.vector, dict) else None
    return ScoredPoint(
        str(point.id),
        float(point.score),
        point.payload or {},
        None if vector is None else np.asarray(vector, dtype=np.float32),
    )


def stored(record: models.Record) -> StoredImage:
    vectors = record.vector if isinstance(record.vector, dict) else {}
    words = vectors.get(WORDS_VECTOR)
    return StoredImage(
        str(record.id),
        record.payload or {},
        np.asarray(vectors[IMAGE_VECTOR], dtype=np.float32),
        None if words is None else np.asarray(words, dtype=np.float32),
    )
