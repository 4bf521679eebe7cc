"""The benchmarks by name.

To add a benchmark, write its class in a module of this package and list it here.
"""

from __future__ import annotations

from pathlib import Path

from fti_qdrant.benchmarks.base import Benchmark
from fti_qdrant.benchmarks.circo import CIRCO
from fti_qdrant.benchmarks.cirr import CIRR
from fti_qdrant.benchmarks.emoji.benchmark import EmojiBenchmark
from fti_qdrant.benchmarks.fashioniq import FashionIQ

BENCHMARKS: dict[str, type[Benchmark]] = {
    one.name: one for one in (FashionIQ, CIRR, CIRCO, EmojiBenchmark)
}


def open_benchmark(name: str, root: Path, split: str | None = None) -> Benchmark:
    """One split, by default the benchmark's first.

    Raises BadBenchmark: no such folder or split, or annotations that are missing or damaged.
    """
    kind = BENCHMARKS[name]
    return kind(root, split or kind.splits[0])
