"""The benchmark's gallery in Qdrant: its manifest for ingest, and what is missing from it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from qdrant_client import models

from fti_qdrant.atomic_files import replacing
from fti_qdrant.benchmarks.base import Benchmark
from fti_qdrant.benchmarks.records import GalleryImage
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
class MissingImages:
    """Images that a benchmark needs and that are not there.

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

    @classmethod
    def of(cls, images: Iterable[GalleryImage]) -> MissingImages:
        count, names = 0, list[str]()
        for image in images:
            count += 1
            if len(names) < SHOWN:
                names.append(image.id)
        return cls(count, tuple(names))


@dataclass(frozen=True)
class GalleryContents:
    """What a gallery holds of a benchmark.

    Attributes:
        missing: the benchmark's images that are not in the gallery.
        digest: changes with any image, its parts, or its file's bytes; also with the reference
            images outside the gallery.
        references: reference image -> sha256 of its file, when it was ingested or found.
    """

    missing: MissingImages
    digest: str
    references: dict[str, str]


def write_manifest(benchmark: Benchmark, path: Path) -> MissingImages:
    """Writes the manifest that ingest reads, one line for each image that has a file.

    Returns those that have none, reference images outside the gallery too. Raises OSError.
    """

    def written() -> Iterable[GalleryImage]:
        with replacing(path) as part, part.open("w", encoding="utf-8") as file:
            for image in benchmark.gallery():
                if image.path is None:
                    yield image
                    continue
                row = {"image": str(image.path.resolve()), NAME: image.id}
                file.write(json.dumps({**row, PART: image.parts} if image.parts else row) + "\n")
        yield from (image for image in benchmark.query_images() if image.path is None)

    return MissingImages.of(written())


def is_complete(location: GalleryLocation, benchmark: Benchmark, fingerprint: Fingerprint) -> bool:
    """Whether the gallery exists and holds every image, so that nothing has to be ingested.

    Raises ModelMismatch where another model made it, BadBenchmark where it is another gallery.
    """
    try:
        gallery = location.open()
    except GalleryNotFound:
        return False
    try:
        gallery.spec.check_model(fingerprint, gallery.name)
        return not survey(gallery, benchmark).missing
    finally:
        gallery.close()


def survey(gallery: Gallery, benchmark: Benchmark) -> GalleryContents:
    """Compares a gallery with the benchmark's own list; takes 8 bytes of memory an image.

    Raises BadBenchmark where it holds an image twice, or one that is not the benchmark's.
    """
    wanted_references = {id for query in benchmark.queries for id in query.references}
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
            image_hash = _hash(name, payload.get(PART) or ())
            content = (content + int(_hash(str(image_hash), (sha256,)))) % 2**64
            yield image_hash

    held = np.fromiter(stored(), dtype=np.uint64)
    held.sort()
    wanted = np.fromiter(
        (_hash(image.id, image.parts) for image in benchmark.gallery()), dtype=np.uint64
    )
    wanted.sort()
    _check_only(held, wanted, gallery, benchmark)
    missing = np.setdiff1d(wanted, held, assume_unique=True)
    images = benchmark.gallery() if len(missing) else ()
    found = MissingImages.of(one for one in images if _hash(one.id, one.parts) in missing)
    for image in benchmark.query_images():
        if image.path is not None:
            references[image.id] = _file_hash(image.path)
            content = (content + int(_hash(image.id, (references[image.id],)))) % 2**64
    return GalleryContents(found, f"{content:016x}", references)


def missing_images_error(
    missing: MissingImages, benchmark: Benchmark, details: str = ""
) -> BadBenchmark:
    """The error to raise for missing images; it names the queries that use the first of them."""
    uses = benchmark.uses()
    affected = [query for name in missing.names for query in uses.get(name, ())]
    queries = f" (used by queries {', '.join(affected[:SHOWN])})" if affected else ""
    return BadBenchmark(
        f"{missing.count:,} images of {benchmark.name} {benchmark.split} are missing: "
        f"{missing}{queries}{details}; list all of them with: fti-eval doctor {benchmark.name} "
        f"--root {benchmark.root}. With --allow-missing figures are computed without them and are "
        "not comparable"
    )


def field_is_any(field: str, values: Sequence[str]) -> models.FieldCondition:
    """The condition that a payload field holds one of these values."""
    return models.FieldCondition(key=field, match=models.MatchAny(any=list(values)))


def _check_only(
    held: np.ndarray, wanted: np.ndarray, gallery: Gallery, benchmark: Benchmark
) -> None:
    """Raises BadBenchmark for images of something else, and for images that are there twice."""
    if foreign := len(np.setdiff1d(held, wanted)):
        raise BadBenchmark(
            f"gallery {gallery.name} holds {foreign} images that are not of {benchmark.name} "
            f"{benchmark.split}, or are of another part of it, and searches would return them; "
            "choose another --gallery or --collection"
        )
    if duplicates := len(held) - len(np.unique(held)):
        raise BadBenchmark(
            f"gallery {gallery.name} holds {duplicates} images of {benchmark.name} twice, ingested "
            "from two folders; choose another --gallery or --collection"
        )


def _file_hash(path: Path) -> str:
    """sha256 of a file; empty where it cannot be read, which ranking then says."""
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError:
        return ""


def _hash(name: str, parts: Sequence[str]) -> np.uint64:
    """64 bits that represent an image in memory."""
    text = "\0".join([name, *sorted(parts)])
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big"))
