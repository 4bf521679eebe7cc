"""A collection's configuration as qdrant-client takes it."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from fti_qdrant.gallery.collection_config import OVERSAMPLING, CollectionConfig, Quantization
from fti_qdrant.gallery.points import GallerySpec
from fti_qdrant.gallery.server_capabilities import Feature

SEARCH_LINKS = 16
"""Links per point in the index (HNSW's m), Qdrant's default; set again after a bulk load."""


BITS: dict[Quantization, models.TurboQuantBitSize] = {
    "turbo4": models.TurboQuantBitSize.BITS4,
    "turbo2": models.TurboQuantBitSize.BITS2,
    "turbo1": models.TurboQuantBitSize.BITS1,
}
"""Bits that TurboQuant keeps of each dimension."""

NEEDED: dict[Quantization, Feature] = {**dict.fromkeys(BITS, "turbo"), "binary": "two_bits"}
"""What the server must be able to do."""

ONE_BIT_OVERSAMPLING = 16.0
"""For binary quantization with one bit, of collections that were made before it had two."""

OTHER_OVERSAMPLING = max(OVERSAMPLING.values())
"""For quantization that other programs chose and we do not offer."""


def read_config(config: models.CollectionConfig, vector: str) -> CollectionConfig:
    """The configuration that a collection was created with."""
    params = config.params
    image = _params_of(params, vector)
    return CollectionConfig(
        _kind(_quantized_by(config, vector)) or "none",
        bool(image.on_disk) if image else False,
        params.shard_number,
        params.replication_factor,
    )


def oversampling_of(config: models.CollectionConfig, vector: str) -> float | None:
    """How many candidates to rescore for each result; None where nothing is quantized."""
    quantized = _quantized_by(config, vector)
    if quantized is None:
        return None
    if isinstance(quantized, models.BinaryQuantization) and not _has_two_bits(quantized):
        return ONE_BIT_OVERSAMPLING
    return OVERSAMPLING.get(_kind(quantized) or "none", OTHER_OVERSAMPLING)


def vector_count(config: models.CollectionConfig) -> int:
    """Vectors of each point, by their names."""
    dense = config.params.vectors
    named = 1 if isinstance(dense, models.VectorParams) else len(dense or {})
    return named + len(config.params.sparse_vectors or {})


def _params_of(params: models.CollectionParams, vector: str) -> models.VectorParams | None:
    if isinstance(params.vectors, models.VectorParams):
        return params.vectors
    return (params.vectors or {}).get(vector)


def _quantized_by(config: models.CollectionConfig, vector: str) -> models.QuantizationConfig | None:
    """A vector's own quantization, or the collection's."""
    image = _params_of(config.params, vector)
    return (image.quantization_config if image else None) or config.quantization_config


def _kind(quantized: models.QuantizationConfig | None) -> Quantization | None:
    """Our name of it; None for nothing, and for what we do not offer."""
    if isinstance(quantized, models.ScalarQuantization):
        return "scalar"
    if isinstance(quantized, models.BinaryQuantization):
        return "binary"
    if isinstance(quantized, models.TurboQuantization):
        return next((name for name, bits in BITS.items() if bits == quantized.turbo.bits), None)
    return None


def _has_two_bits(quantized: models.BinaryQuantization) -> bool:
    return quantized.binary.encoding == models.BinaryQuantizationEncoding.TWO_BITS


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
        two = models.BinaryQuantizationEncoding.TWO_BITS
        return models.BinaryQuantization(
            binary=models.BinaryQuantizationConfig(always_ram=True, encoding=two)
        )
    if kind in BITS:
        return models.TurboQuantization(
            turbo=models.TurboQuantQuantizationConfig(always_ram=True, bits=BITS[kind])
        )
    return None
