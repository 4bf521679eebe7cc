"""The benchmark's gallery in Qdrant: filled by fti-ingest, then compared name by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from qdrant_client import models

from fti_qdrant.benchmarks.protocol import Benchmark, GalleryImage
from fti_qdrant.errors import BadBenchmark, GalleryNotFound
from fti_qdrant.fingerprint import Fingerprint
from fti_qdrant.gallery import Gallery
from fti_qdrant.gallery.place import GalleryPlace

NAME, PART = "name", "part"
"""Payload fields: the benchmark's id of an image, and the parts of the gallery that hold it."""

MANIFEST = "gallery.jsonl"
SHOWN = 3
"""Missing images that a message names."""


@dataclass(frozen=True)
class Absent:
    """Images that should be in the gallery and are not.

    Attributes:
        names: the first of them.
    """

    count: int
    names: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.count > 0

    def __str__(self) -> str:
        more = f" and {self.count - len(self.names):,} more" if self.count > len(self.names) else ""
        return f"{', '.join(self.names)}{more}"

    @staticmethod
    def of(images: Iterable[GalleryImage]) -> Absent:
        count, names = 0, list[str]()
        for image in images:
            count += 1
            if len(names) < SHOWN:
                names.append(image.id)
        return Absent(count, tuple(names))


def write_manifest(benchmark: Benchmark, path: Path) -> Absent:
    """Writes what fti-ingest reads, a line for each picture; returns those that are missing."""

    def written() -> Iterable[GalleryImage]:
        fresh = path.with_suffix(".part")
        with fresh.open("w", encoding="utf-8") as file:
            for image in benchmark.gallery():
                if image.path is None:
                    yield image
                    continue
                row = {"image": str(image.path.resolve()), NAME: image.id}
                file.write(json.dumps({**row, PART: image.parts} if image.parts else row) + "\n")
        fresh.replace(path)

    path.parent.mkdir(parents=True, exist_ok=True)
    return Absent.of(written())


def is_complete(place: GalleryPlace, benchmark: Benchmark, fingerprint: Fingerprint) -> bool:
    """Whether the gallery is there and holds every image, so that nothing need be ingested.

    Raises ModelMismatch where another model made it, BadBenchmark where it is another gallery.
    """
    try:
        gallery = place.open()
    except GalleryNotFound:
        return False
    try:
        gallery.spec.check_model(fingerprint, gallery.name)
        return not absent_from(gallery, benchmark)
    finally:
        gallery.close()


def absent_from(gallery: Gallery, benchmark: Benchmark) -> Absent:
    """The benchmark's images that the gallery does not hold; 8 bytes an image in memory.

    Raises BadBenchmark where it holds an image twice, or any that is not the benchmark's.
    """
    stored = _sorted(payload.get(NAME) for _, payload in gallery.scroll())
    if (twice := len(stored) - len(np.unique(stored))) > 0:
        raise BadBenchmark(
            f"gallery {gallery.name} holds {twice} images of {benchmark.name} twice, under two "
            "paths; delete it, or choose another one"
        )
    wanted = _sorted(image.id for image in benchmark.gallery())
    strange = len(np.setdiff1d(stored, wanted, assume_unique=True))
    if strange:
        raise BadBenchmark(
            f"gallery {gallery.name} holds {strange} images that are not of {benchmark.name} "
            f"{benchmark.split}, which would be found in place of the right ones; choose another "
            "--gallery or --collection"
        )
    missing = np.setdiff1d(wanted, stored, assume_unique=True)
    if not len(missing):
        return Absent(0, ())
    return Absent.of(image for image in benchmark.gallery() if _short(image.id) in missing)


def refusal(absent: Absent, benchmark: Benchmark, more: str = "") -> BadBenchmark:
    """The error for missing images, with the queries that the first of them affect."""
    uses = benchmark.uses()
    affected = [query for name in absent.names for query in uses.get(name, ())]
    told = f" (queries {', '.join(affected[:SHOWN])} use them)" if affected else ""
    return BadBenchmark(
        f"{absent.count:,} images of {benchmark.name} {benchmark.split} are missing: "
        f"{absent}{told}{more}; see them all with: fti-eval doctor {benchmark.name} --root "
        f"{benchmark.root}. With --allow-missing figures are computed without them, and are not "
        "comparable"
    )


def only(field: str, values: Sequence[str]) -> models.FieldCondition:
    """The condition that a payload field holds one of these values."""
    return models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))


def _sorted(names: Iterable[object]) -> np.ndarray:
    """Digests of names, in order."""
    found = np.fromiter((_short(name) for name in names), dtype=np.uint64)
    found.sort()
    return found


def _short(name: object) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(str(name).encode()).digest()[:8], "big"))
