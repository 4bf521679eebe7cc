"""What can be chosen for a collection on a server. Importable without qdrant-client."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Literal

from fti_qdrant.errors import BadManifest

Quantization = Literal["none", "scalar", "turbo4", "turbo2", "turbo1", "binary"]

OVERSAMPLING: dict[Quantization, float] = {
    "scalar": 2.0,
    "turbo4": 2.0,
    "turbo2": 4.0,
    "turbo1": 8.0,
    "binary": 8.0,
}
"""So many times the limit is found by the quantized vectors, then rescored by the original ones.

Each is the least of 2, 4 and 8 that had a recall@10 of at least 0.99 on a server 1.18.3, with
100,000 vectors of 512 dimensions that are as unevenly spread as those of a CLIP.
``bench/quantization.py`` measures the same on the embedded engine.
"""


@dataclass(frozen=True)
class CollectionConfig:
    """What can be chosen when a collection is created; None leaves it to the server.

    Attributes:
        quantization: of the vectors that a search compares, which are kept in memory. ``scalar``
            has one byte for a dimension (a quarter), ``turbo4``, ``turbo2`` and ``turbo1``
            (TurboQuant) have 4, 2 and 1 bits (about an 8th, a 15th, a 28th), ``binary`` two,
            without TurboQuant's rotation. Results are rescored by the original vectors, see
            ``OVERSAMPLING``.
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
