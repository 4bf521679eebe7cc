"""Checks a benchmark's folder before any work: what is missing, and which queries need it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice

from fti_qdrant.benchmarks.base import Benchmark
from fti_qdrant.benchmarks.records import GalleryImage
from fti_qdrant.errors import BadImage
from fti_qdrant.images import open_image
from fti_qdrant.parallel_map import parallel_map

CHUNK = 256


@dataclass(frozen=True)
class Finding:
    """One image that is missing or unreadable.

    Attributes:
        file: its path; empty where there is no file.
        queries: ids of the queries that use it.
    """

    image: str
    file: str
    reason: str
    queries: tuple[str, ...]


@dataclass
class Diagnosis:
    """The result of a check.

    Attributes:
        affected: queries that use any of the images in ``findings``.
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
    """Checks every image file of a benchmark.

    Args:
        decode: read each image, which finds truncated ones; otherwise only check that the file
            exists and is not empty.
        advance: called with the number of images that were checked since the last call.

    Raises BadBenchmark where the annotations are missing or damaged.
    """
    diagnosis = Diagnosis(deviations=benchmark.deviations())
    uses = benchmark.uses()
    check = _decoded if decode else _present
    images = benchmark.files()
    while chunk := list(islice(images, CHUNK)):
        for reason, image in zip(parallel_map(check, chunk), chunk):
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
