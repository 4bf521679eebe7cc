"""The benchmarks by name: built in, registered by a program, or from installed packages.

Importable without torch. To build one in, write its class in a module of this package and list it
here. From outside, use ``register``, or a package's entry point of the group
``fti_qdrant.benchmarks`` (docs/extending.md).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path

from fti_qdrant.benchmarks.base import Benchmark
from fti_qdrant.benchmarks.circo import CIRCO
from fti_qdrant.benchmarks.cirr import CIRR
from fti_qdrant.benchmarks.emoji.benchmark import EmojiBenchmark
from fti_qdrant.benchmarks.fashioniq import FashionIQ
from fti_qdrant.benchmarks.genecis import GeneCIS
from fti_qdrant.benchmarks.icir import ICIR
from fti_qdrant.benchmarks.pinpoint import PinPoint
from fti_qdrant.errors import BadBenchmark
from fti_qdrant.package_entry import load_entry

BUILT_IN: tuple[type[Benchmark], ...] = (
    *(FashionIQ, CIRR, CIRCO),
    *(ICIR, GeneCIS, PinPoint),
    EmojiBenchmark,
)

BENCHMARKS: dict[str, type[Benchmark]] = {one.name: one for one in BUILT_IN}
"""Name -> class, in the order in which they are listed."""

ENTRY_POINTS = "fti_qdrant.benchmarks"
"""Group of the entry points by which a package brings benchmarks; each is a class."""


REQUIRED = ("name", "splits", "protocol", "reference_stays", "download")
"""Attributes without a default."""


def register(benchmark: type[Benchmark]) -> type[Benchmark]:
    """Adds a benchmark, which then works everywhere that a built-in one does; also a decorator.

    Raises BadBenchmark where another benchmark has this name, or where it lacks an attribute.
    """
    if missing := [one for one in REQUIRED if not hasattr(benchmark, one)]:
        raise BadBenchmark(f"benchmark {benchmark.__name__} has no {' and no '.join(missing)}")
    name = benchmark.name
    if BENCHMARKS.get(name, benchmark) is not benchmark:
        raise BadBenchmark(f"there is a benchmark {name!r} already; choose another name")
    BENCHMARKS[name] = benchmark
    return benchmark


def benchmark_names() -> tuple[str, ...]:
    """The names of all benchmarks; a package's is not loaded for its name.

    Example:
        >>> benchmark_names()[:3]
        ('fashioniq', 'cirr', 'circo')
    """
    return (*BENCHMARKS, *(name for name in _installed() if name not in BENCHMARKS))


def find_benchmark(name: str) -> type[Benchmark]:
    """A benchmark by name.

    Raises BadBenchmark for an unknown name, or a package's benchmark that cannot be loaded.
    """
    if name not in BENCHMARKS and name in _installed():
        _load_installed(name)
    try:
        return BENCHMARKS[name]
    except KeyError:
        raise BadBenchmark(
            f"unknown benchmark {name!r}; use one of {', '.join(benchmark_names())}"
        ) from None


def open_benchmark(name: str, root: Path, split: str | None = None) -> Benchmark:
    """One split, by default the benchmark's first.

    Raises BadBenchmark: no such benchmark, folder or split, or annotations that are missing or
    damaged.
    """
    kind = find_benchmark(name)
    return kind(root, split or kind.splits[0])


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _load_installed(name: str) -> None:
    def fits(found: object) -> bool:
        return isinstance(found, type) and issubclass(found, Benchmark) and found.name == name

    point = _installed()[name]
    register(load_entry(point, "benchmark", "a Benchmark", fits, BadBenchmark))
