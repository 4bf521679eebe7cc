"""Looks a benchmark's folder through before any work: what is missing, and what that costs."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

from fti_qdrant.benchmarks.base import Benchmark, GalleryImage
from fti_qdrant.errors import BadImage
from fti_qdrant.images import open_image

CHUNK = 256


@dataclass(frozen=True)
class Finding:
    """One picture that is not as it should be.

    Attributes:
        file: its path; empty where no file was found.
        queries: ids of the queries that it matters to.
    """

    image: str
    file: str
    reason: str
    queries: tuple[str, ...]


@dataclass
class Diagnosis:
    """What a look through the folder found.

    Attributes:
        affected: queries that any finding matters to.
        deviations: differences from the official annotation files.
    """

    images: int = 0
    findings: list[Finding] = field(default_factory=list)
    affected: set[str] = field(default_factory=set)
    deviations: list[str] = field(default_factory=list)

    @property
    def healthy(self) -> bool:
        """Whether figures would be comparable."""
        return not self.findings and not self.deviations


def examine(
    benchmark: Benchmark, *, decode: bool, advance: Callable[[int], None] = lambda count: None
) -> Diagnosis:
    """Looks for every picture of the gallery.

    Args:
        decode: read each picture whole, which finds the truncated ones; else look whether it is
            there and not empty.
        advance: told how many more pictures are done.

    Raises BadBenchmark where the annotations are missing or damaged.
    """
    diagnosis = Diagnosis(deviations=benchmark.deviations())
    uses = benchmark.uses()
    check = _decoded if decode else _present
    images = benchmark.gallery()
    with ThreadPoolExecutor() as pool:
        while chunk := list(islice(images, CHUNK)):
            for image, reason in zip(chunk, pool.map(check, chunk)):
                if reason:
                    queries = tuple(uses.get(image.id, ()))
                    file = str(image.path or "")
                    diagnosis.findings.append(Finding(image.id, file, reason, queries))
                    diagnosis.affected.update(queries)
            diagnosis.images += len(chunk)
            advance(len(chunk))
    return diagnosis


def _present(image: GalleryImage) -> str:
    if image.path is None:
        return "missing"
    try:
        return "" if image.path.stat().st_size else "empty file"
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _decoded(image: GalleryImage) -> str:
    if image.path is None:
        return "missing"
    try:
        open_image(image.path)
    except BadImage as error:
        return str(error)
    return ""
