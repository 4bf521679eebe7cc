"""How a server's collection keeps its vectors, and the two states of a bulk load."""

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
"""Links of a point in the index (HNSW's m), Qdrant's default: what a bulk load leaves behind."""

OVERSAMPLING = 2.0
"""So many times the wanted hits are found by quantized vectors, then rescored by the whole ones."""


@dataclass(frozen=True)
class CollectionConfig:
    """What may be chosen when a collection is made; None leaves it to the server.

    Attributes:
        quantization: ``scalar`` keeps a byte a dimension in memory (a quarter), ``binary`` a bit
            (a 32nd, for 1,024 dimensions and more); searches rescore by the whole vectors.
        on_disk: whole vectors and payloads are read from disk, and cached as memory allows.
        shards: parts that the nodes of a cluster share.
        replicas: copies of each.
    """

    quantization: Quantization = "none"
    on_disk: bool = False
    shards: int | None = None
    replicas: int | None = None

    @classmethod
    def of(cls, params: models.CollectionParams) -> Self:
        """As a collection of ours was made."""
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
        """Raises BadManifest where something else is asked for than a collection was made with."""
        for field in fields(self):
            asked, there = getattr(wanted, field.name), getattr(self, field.name)
            if asked != field.default and asked != there:
                raise BadManifest(
                    f"{where} was made with {field.name} {there}, not {asked}; leave the option "
                    "out, or ingest into a new collection"
                )

    def vectors(self, spec: GallerySpec) -> dict[str, models.VectorParams]:
        """Stored pseudo-words are always whole, on disk and without index."""
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
        """The rest, as ``QdrantClient.create_collection`` takes it."""
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
    """Without quantization the server ignores what is said of it."""
    if exact:
        return models.SearchParams(exact=True)
    rescored = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
    return models.SearchParams(exact=False, quantization=rescored)
