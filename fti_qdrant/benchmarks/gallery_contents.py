"""The benchmark's gallery in Qdrant: filled by fti-ingest, then compared name by name."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from qdrant_client import models

from fti_qdrant.benchmarks.base import Benchmark, GalleryImage
from fti_qdrant.errors import BadBenchmark, GalleryNotFound
from fti_qdrant.gallery import Gallery
from fti_qdrant.gallery.location import GalleryLocation
from fti_qdrant.gallery.points import OURS
from fti_qdrant.model.fingerprint import Fingerprint

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


@dataclass(frozen=True)
class Contents:
    """What a gallery holds of a benchmark.

    Attributes:
        absent: the benchmark's images that it does not hold.
        digest: changes with any image, its parts, or its picture's bytes.
        references: reference image -> sha256 of the picture that was ingested.
    """

    absent: Absent
    digest: str
    references: dict[str, str]


def is_complete(location: GalleryLocation, benchmark: Benchmark, fingerprint: Fingerprint) -> bool:
    """Whether the gallery is there and holds every image, so that nothing need be ingested.

    Raises ModelMismatch where another model made it, BadBenchmark where it is another gallery.
    """
    try:
        gallery = location.open()
    except GalleryNotFound:
        return False
    try:
        gallery.spec.check_model(fingerprint, gallery.name)
        return not survey(gallery, benchmark).absent
    finally:
        gallery.close()


def survey(gallery: Gallery, benchmark: Benchmark) -> Contents:
    """Compares a gallery with the benchmark's own list; 8 bytes an image in memory.

    Raises BadBenchmark where it holds an image twice, or any that is not the benchmark's.
    """
    wanted_references = {query.reference for query in benchmark.queries}
    references: dict[str, str] = {}
    content = 0

    def stored() -> Iterator[np.uint64]:
        nonlocal content
        for id, payload in gallery.scroll():
            if NAME not in payload:
                raise BadBenchmark(
                    f"gallery {gallery.name} was not filled by fti-eval (image {id} has no "
                    f"{NAME!r}); choose another --gallery or --collection"
                )
            name, sha256 = str(payload[NAME]), str(payload.get(OURS, {}).get("sha256"))
            if name in wanted_references:
                references[name] = sha256
            place = _short(name, payload.get(PART) or ())
            content = (content + int(_short(str(place), (sha256,)))) % 2**64
            yield place

    held = np.fromiter(stored(), dtype=np.uint64)
    held.sort()
    wanted = np.fromiter(
        (_short(image.id, image.parts) for image in benchmark.gallery()), dtype=np.uint64
    )
    wanted.sort()
    strange = len(np.setdiff1d(held, wanted))
    if strange:
        raise BadBenchmark(
            f"gallery {gallery.name} holds {strange} images that are not of {benchmark.name} "
            f"{benchmark.split}, or of another part of it, which would be found in place of the "
            "right ones; choose another --gallery or --collection"
        )
    if (twice := len(held) - len(np.unique(held))) > 0:
        raise BadBenchmark(
            f"gallery {gallery.name} holds {twice} images of {benchmark.name} twice, ingested "
            "from two folders; choose another --gallery or --collection"
        )
    missing = np.setdiff1d(wanted, held, assume_unique=True)
    absent = Absent(0, ())
    if len(missing):
        images = benchmark.gallery()
        absent = Absent.of(one for one in images if _short(one.id, one.parts) in missing)
    return Contents(absent, f"{content:016x}", references)


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


def _short(name: str, parts: Sequence[str]) -> np.uint64:
    text = "\0".join([name, *sorted(parts)])
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
