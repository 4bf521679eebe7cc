"""How a server's collection stores its vectors, and its search parameters."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from qdrant_client import models

from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery.points import IMAGE_VECTOR, WORDS_VECTOR, GallerySpec

if TYPE_CHECKING:
    from typing_extensions import Self

Quantization = Literal["none", "scalar", "binary"]

SEARCH_LINKS = 16
"""Links per point in the index (HNSW's m), Qdrant's default; set again after a bulk load."""

OVERSAMPLING = 2.0
"""With quantization, this many times the limit is found, then rescored by original vectors."""


@dataclass(frozen=True)
class CollectionConfig:
    """What can be chosen when a collection is created; None leaves it to the server.

    Attributes:
        quantization: ``scalar`` keeps one byte per dimension in memory (a quarter), ``binary`` one
            bit (a 32nd, for 1,024 dimensions and more); results are rescored by the original
            vectors.
        on_disk: original vectors and payloads are read from disk, and cached as memory allows.
        shards: parts that are distributed over the nodes of a cluster.
        replicas: copies of each shard.
    """

    quantization: Quantization = "none"
    on_disk: bool = False
    shards: int | None = None
    replicas: int | None = None

    @classmethod
    def of(cls, params: models.CollectionParams) -> Self:
        """The configuration that one of our collections was created with."""
        vectors = params.vectors
        image = vectors[IMAGE_VECTOR]  # type: ignore[index]
        kinds: dict[type, Quantization] = {
            models.ScalarQuantization: "scalar",
            models.BinaryQuantization: "binary",
        }
        return cls(
            kinds.get(type(image.quantization_config), "none"),
            bool(image.on_disk),
            params.shard_number,
            params.replication_factor,
        )

    def check(self, wanted: CollectionConfig, where: str) -> None:
        """Raises BadManifest where a requested value differs from the collection's."""
        for field in fields(self):
            asked, there = getattr(wanted, field.name), getattr(self, field.name)
            if asked != field.default and asked != there:
                raise BadManifest(
                    f"{where} was made with {field.name} {there}, not {asked}; leave the option "
                    "out, or ingest into a new collection"
                )

    def vectors(self, spec: GallerySpec) -> dict[str, models.VectorParams]:
        """The vectors by name. Pseudo-words are never quantized, on disk, and without an index."""
        config = {
            IMAGE_VECTOR: models.VectorParams(
                size=spec.fingerprint.dim,
                distance=models.Distance.COSINE,
                on_disk=self.on_disk or None,
                quantization_config=_quantization(self.quantization),
            )
        }
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

    def collection(self) -> dict[str, Any]:
        """All other arguments of ``QdrantClient.create_collection``."""
        return {
            "on_disk_payload": self.on_disk or None,
            "shard_number": self.shards,
            "replication_factor": self.replicas,
        }


def _quantization(kind: Quantization) -> models.QuantizationConfig | None:
    if kind == "scalar":
        return models.ScalarQuantization(
            scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8, always_ram=True)
        )
    if kind == "binary":
        return models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
    return None


def search_params(exact: bool) -> models.SearchParams:
    """The quantization part is ignored by the server where a collection has none."""
    if exact:
        return models.SearchParams(exact=True)
    rescored = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
    return models.SearchParams(exact=False, quantization=rescored)
