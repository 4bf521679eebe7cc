"""A collection's configuration as qdrant-client takes it."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from fti_qdrant.gallery.collection_config import CollectionConfig, Quantization
from fti_qdrant.gallery.layout import CollectionLayout
from fti_qdrant.gallery.points import GallerySpec

SEARCH_LINKS = 16
"""Links per point in the index (HNSW's m), Qdrant's default; set again after a bulk load."""


def read_config(params: models.CollectionParams, layout: CollectionLayout) -> CollectionConfig:
    """The configuration that a collection was created with."""
    vectors = params.vectors
    image: Any = vectors[layout.image_vector] if isinstance(vectors, dict) else vectors
    kinds: dict[type, Quantization] = {
        models.ScalarQuantization: "scalar",
        models.BinaryQuantization: "binary",
    }
    return CollectionConfig(
        kinds.get(type(image.quantization_config), "none"),
        bool(image.on_disk),
        params.shard_number,
        params.replication_factor,
    )


def creation_options(config: CollectionConfig, spec: GallerySpec) -> dict[str, Any]:
    """The arguments of ``QdrantClient.create_collection`` that the configuration decides."""
    return {
        "vectors_config": _vectors(config, spec),
        "on_disk_payload": config.on_disk or None,
        "shard_number": config.shards,
        "replication_factor": config.replicas,
    }


def _vectors(config: CollectionConfig, spec: GallerySpec) -> dict[str, models.VectorParams]:
    """The vectors by name. Pseudo-words are never quantized, on disk, and without an index."""
    vectors = {
        spec.layout.image_vector: models.VectorParams(
            size=spec.fingerprint.dim,
            distance=models.Distance.COSINE,
            on_disk=config.on_disk or None,
            quantization_config=_quantization(config.quantization),
        )
    }
    if spec.words:
        vectors[spec.layout.words_vector] = models.VectorParams(
            size=spec.words.token_dim,
            distance=models.Distance.DOT,
            on_disk=True,
            datatype=models.Datatype.FLOAT16,
            multivector_config=models.MultiVectorConfig(
                comparator=models.MultiVectorComparator.MAX_SIM
            ),
            hnsw_config=models.HnswConfigDiff(m=0),
        )
    return vectors


def _quantization(kind: Quantization) -> models.QuantizationConfig | None:
    if kind == "scalar":
        return models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
        )
    if kind == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return None
