"""Duplicate images, exact or near, found in the order of the source."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from fti_ingest.stages.columns import replaced, spread, texts
from fti_ingest.stages.perceptual_hash import SHAPE_BITS_APART, PerceptualHash
from fti_ingest.stages.row_status import SKIPPED, STORE
from fti_qdrant.gallery.points import OURS, Payload

Dedupe = Literal["keep", "mark", "skip"]
"""What becomes of a duplicate: it is stored, stored and marked in its payload, or not stored."""

Image = tuple[str, str, str, str]
"""Id, URI, sha256 and perceptual hash of an image."""

BANDS, BAND_BITS = 4, 16
"""The 64 bits of a perceptual hash, in bands: where two hashes differ in at most 7 bits, some band
differs in at most one, so looking up all such bands finds every near duplicate."""

TABLES = """
    pragma journal_mode = wal;
    pragma synchronous = off;
    create table if not exists images (
        number integer primary key,
        id text unique, uri text, sha text, look text, original text, kind text);
    create index if not exists by_sha on images (sha);
    create table if not exists bands (band integer, value integer, shape text, image integer);
    create index if not exists by_band on bands (band, value);
"""

EARLIER = """
    select earlier.sha, earlier.original, earlier.kind, original.uri
    from images as earlier left join images as original on original.id = earlier.original
    where earlier.id = ?
"""

DUPLICATES_AND_ORIGINALS = """
    select one.id, one.kind, one.sha, one.look, original.sha, original.look, original.original
    from images as one left join images as original on original.id = one.original
    where one.original != ''
"""

ALIKE_IN_A_BAND = (
    "select shape, image from bands where band = ? "
    f"and value in ({', '.join('?' * (BAND_BITS + 1))})"
)


@dataclass(frozen=True)
class Duplicate:
    """A duplicate image.

    Attributes:
        of: id of the original, the first such image; it is not a duplicate itself.
        kind: ``exact`` for the same bytes, ``near`` for the same picture re-encoded or resized.
    """

    id: str
    uri: str
    of: str
    of_uri: str
    kind: str


class Originals:
    """The images so far, in a file so that memory stays flat.

    Decisions are stored, so that asking again after a crash gives the same answer.
    """

    def __init__(self, path: str):
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript(TABLES)

    def recording(self, held: Iterable[tuple[str, Payload]]) -> Iterator[tuple[str, Payload]]:
        """Records the images of a gallery while they pass by; yields them unchanged."""
        self._db.execute("begin")
        for id, payload in held:
            ours = payload.get(OURS, {})
            of, kind = ours.get("duplicate_of", ""), ours.get("duplicate", "")
            seen = (ours.get("sha256", ""), ours.get("look", ""))
            self._insert(id, ours.get("uri", ""), *seen, of, kind)
            yield id, payload
        self._db.execute("commit")

    def outdated(self) -> list[str]:
        """Removes and returns the ids of duplicates whose original has gone or changed."""
        found = [
            id
            for id, kind, sha, look, *original in self._db.execute(DUPLICATES_AND_ORIGINALS)
            if not _still_is(kind, (sha, look), original)
        ]
        for id in found:
            self._forget(id)
        return found

    def close(self) -> None:
        self._db.close()

    def decide_all(self, images: Sequence[Image]) -> list[Duplicate | None]:
        """``decide`` for each, in this order."""
        self._db.execute("begin")
        found = [self.decide(*one) for one in images]
        self._db.execute("commit")
        return found

    def decide(self, id: str, uri: str, sha256: str, look: str) -> Duplicate | None:
        """Records an image, and returns what it duplicates, if anything."""
        row = self._db.execute(EARLIER, (id,)).fetchone()
        if row is not None:
            earlier_sha, of, kind, of_uri = row
            if earlier_sha == sha256 and not of:
                return None
            if earlier_sha == sha256 and of_uri is not None:
                return Duplicate(id, uri, of, of_uri, kind)
            self._forget(id)  # the image has changed, or its original has gone
        of, kind = self._find(sha256, look)
        self._insert(id, uri, sha256, look, of, kind)
        if not of:
            return None
        [(of_uri,)] = self._db.execute("select uri from images where id = ?", (of,))
        return Duplicate(id, uri, of, of_uri, kind)

    def _find(self, sha256: str, look: str) -> tuple[str, str]:
        """Id of the original and the kind, or two empty texts."""
        same = self._db.execute(
            "select id from images where sha = ? and original = '' limit 1", (sha256,)
        ).fetchone()
        if same is not None:
            return same[0], "exact"
        if not look:
            return "", ""
        _, nearest = min(self._alike(PerceptualHash.read(look)), default=(0, ""))
        return (nearest, "near") if nearest else ("", "")

    def _alike(self, asked: PerceptualHash) -> Iterator[tuple[int, str]]:
        """Distance in bits and id of each similar original; some come more than once."""
        for band, value in _bands(asked.shape):
            for shape, image in self._db.execute(ALIKE_IN_A_BAND, (band, *_almost(value))):
                apart = (int(shape, 16) ^ asked.shape).bit_count()
                if apart > SHAPE_BITS_APART:
                    continue  # most of them, so their colors are not read
                [(look, id)] = self._db.execute(
                    "select look, id from images where number = ?", (image,)
                )
                if asked.is_like(PerceptualHash.read(look)):
                    yield apart, id

    def _insert(self, id: str, uri: str, sha256: str, look: str, of: str, kind: str) -> None:
        number = self._db.execute(
            "insert into images (id, uri, sha, look, original, kind) values (?, ?, ?, ?, ?, ?)",
            (id, uri, sha256, look, of, kind),
        ).lastrowid
        if look and not of:
            shape = PerceptualHash.read(look).shape
            rows = [(*band, f"{shape:x}", number) for band in _bands(shape)]
            self._db.executemany("insert into bands values (?, ?, ?, ?)", rows)

    def _forget(self, id: str) -> None:
        [(number, look)] = self._db.execute("select number, look from images where id = ?", (id,))
        self._db.execute("delete from images where number = ?", (number,))
        rows = [(*band, number) for band in _bands(PerceptualHash.read(look).shape)] if look else []
        self._db.executemany("delete from bands where band = ? and value = ? and image = ?", rows)


def _still_is(kind: str, seen: tuple[str, str], original: Sequence[str | None]) -> bool:
    """Whether an image with this hash is still a duplicate of its original."""
    sha, look, of = original
    if of != "":  # gone, or now a duplicate itself
        return False
    if kind == "exact" or not (seen[1] and look):
        return seen[0] == sha
    return PerceptualHash.read(seen[1]).is_like(PerceptualHash.read(look))


def _bands(shape: int) -> Iterator[tuple[int, int]]:
    for band in range(BANDS):
        yield band, (shape >> (band * BAND_BITS)) & ((1 << BAND_BITS) - 1)


def _almost(value: int) -> Iterator[int]:
    """A band, and all bands that differ from it in one bit."""
    yield value
    for bit in range(BAND_BITS):
        yield value ^ (1 << bit)


class Deduplicator:
    """Finds duplicates; one worker, which sees all images in the order of the source.

    Adds the columns ``duplicate_of``, ``duplicate_of_uri`` and ``duplicate`` (``exact``, ``near``),
    empty for other images, and ``dedupe_s``.
    """

    def __init__(self, decide_all: Callable[[Sequence[Image]], list[Duplicate | None]], skip: bool):
        """``decide_all`` is that of an ``Originals``, which may live in another process."""
        self.decide_all = decide_all
        self.skip = skip

    def __call__(self, batch: pa.Table) -> pa.Table:
        began = time.perf_counter()
        names = ["id", "uri", "sha256", "perceptual_hash"]
        status = batch["status"].to_pylist()
        rows = [row for row, one in enumerate(status) if one == STORE]
        images = [
            tuple(image.values())
            for image in batch.select(names).take(pa.array(rows, pa.int64())).to_pylist()
        ]
        found: list[Duplicate | None] = [None] * len(status)
        for row, one in zip(rows, self.decide_all(images)):
            found[row] = one
        columns = {
            "duplicate_of": texts(one.of if one else "" for one in found),
            "duplicate_of_uri": texts(one.of_uri if one else "" for one in found),
            "duplicate": texts(one.kind if one else "" for one in found),
        }
        if self.skip and any(found):
            pixels = batch["pixels"].to_pylist()
            columns["status"] = texts(SKIPPED if one else was for one, was in zip(found, status))
            columns["pixels"] = pa.array(
                [b"" if one else was for one, was in zip(found, pixels)], pa.large_binary()
            )
        return replaced(batch, **columns, dedupe_s=spread(time.perf_counter() - began, len(batch)))


def duplicates_in(batch: pa.Table) -> Iterator[Duplicate]:
    """What a ``Deduplicator`` found; nothing where there was none."""
    if "duplicate" not in batch.column_names:
        return
    found = batch.filter(pc.not_equal(batch["duplicate"], ""))
    names = ["id", "uri", "duplicate_of", "duplicate_of_uri", "duplicate"]
    for row in found.select(names).to_pylist():
        yield Duplicate(*row.values())


def replaced_duplicates(batch: pa.Table) -> list[str]:
    """Ids of skipped duplicates under which the gallery holds an earlier, other picture."""
    skipped = pc.equal(batch["status"], SKIPPED)
    held = pc.not_equal(batch["stored_revision"], "")
    return list(batch.filter(pc.and_(skipped, held))["id"].to_pylist())
