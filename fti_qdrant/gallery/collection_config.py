"""What can be chosen for a collection on a server. Importable without qdrant-client."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from fti_qdrant.errors import BadManifest

Quantization = Literal["none", "scalar", "binary"]


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

    def check(self, wanted: CollectionConfig, where: str) -> None:
        """Raises BadManifest where a requested value differs from the collection's."""
        for field in fields(self):
            asked, there = getattr(wanted, field.name), getattr(self, field.name)
            if asked != field.default and asked != there:
                raise BadManifest(
                    f"{where} was made with {field.name} {there}, not {asked}; leave the option "
                    "out, or ingest into a new collection"
                )
