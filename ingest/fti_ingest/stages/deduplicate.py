"""Images that are there already, byte for byte or nearly: found as they pass, in source order."""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import pyarrow as pa

from fti_ingest.stages.columns import replaced, spread
from fti_ingest.stages.perceptual_hash import SHAPE_BITS_APART, PerceptualHash
from fti_ingest.stages.row_status import SKIPPED
from fti_qdrant.gallery.points import OURS, Payload

Dedupe = Literal["keep", "mark", "skip"]
"""What becomes of a duplicate: stored as any image, stored with a note, or not stored."""

BANDS, BAND_BITS = 4, 16
"""The 64 bits of a look's shape, cut: of two that differ in at most 7 bits some band differs in at
most one, and all such bands are asked for."""

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
    """An image that is there already.

    Attributes:
        of: id of the first such image, which is itself nobody's duplicate.
        kind: ``exact`` for the same bytes as that one, ``near`` for nearly the same picture.
    """

    id: str
    uri: str
    of: str
    of_uri: str
    kind: str


class Originals:
    """The images so far that are nobody's duplicates, in a file: memory stays flat.

    A decision is kept with its image, so that asking again, after a crash, gives it again.
    """

    def __init__(self, path: str):
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript(TABLES)

    def noting(
        self, held: Iterable[tuple[str, Payload]], stays: Callable[[str], bool] = lambda id: True
    ) -> Iterator[tuple[str, Payload]]:
        """What a gallery holds comes first; each is handed on as it was.

        What does not stay is nobody's original.
        """
        self._db.execute("begin")
        for id, payload in held:
            ours = payload.get(OURS, {})
            of, kind = ours.get("duplicate_of", ""), ours.get("duplicate", "")
            if stays(id):
                seen = (ours.get("sha256", ""), ours.get("look", ""))
                self._insert(id, ours.get("uri", ""), *seen, of, kind)
            yield id, payload
        self._db.execute("commit")

    def outdated(self) -> list[str]:
        """Ids of duplicates whose original is none any more; they are forgotten."""
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

    def decide_all(self, images: Sequence[tuple[str, str, str, str]]) -> list[Duplicate | None]:
        """``decide`` for each, in this order."""
        self._db.execute("begin")
        found = [self.decide(*one) for one in images]
        self._db.execute("commit")
        return found

    def decide(self, id: str, uri: str, sha256: str, look: str) -> Duplicate | None:
        """Takes note of an image; what it duplicates, if anything."""
        row = self._db.execute(EARLIER, (id,)).fetchone()
        if row is not None:
            earlier_sha, of, kind, of_uri = row
            if earlier_sha == sha256 and not of:
                return None
            if earlier_sha == sha256 and of_uri is not None:
                return Duplicate(id, uri, of, of_uri, kind)
            self._forget(id)  # it was another picture, or its original has gone
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
        """Bits apart and id of each original that looks like it, some more than once."""
        for band, value in _bands(asked.shape):
            for shape, image in self._db.execute(ALIKE_IN_A_BAND, (band, *_almost(value))):
                apart = (int(shape, 16) ^ asked.shape).bit_count()
                if apart > SHAPE_BITS_APART:
                    continue  # most are: their colors are not read
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
    """Whether one with this hash and look is a duplicate of what its original is now."""
    sha, look, of = original
    if of != "":  # gone, or a duplicate itself by now
        return False
    if kind == "exact" or not (seen[1] and look):
        return seen[0] == sha
    return PerceptualHash.read(seen[1]).is_like(PerceptualHash.read(look))


def _bands(shape: int) -> Iterator[tuple[int, int]]:
    for band in range(BANDS):
        yield band, (shape >> (band * BAND_BITS)) & ((1 << BAND_BITS) - 1)


def _almost(value: int) -> Iterator[int]:
    """A band, and all that differ from it in one bit."""
    yield value
    for bit in range(BAND_BITS):
        yield value ^ (1 << bit)


class Deduplicator:
    """Stage 2 where asked for, one actor, that sees all images in source order.

    Adds the columns ``duplicate``, empty or a ``Duplicate`` as JSON, and ``dedupe_s``.
    """

    def __init__(self, originals: Any, dedupe: Dedupe):
        """``originals`` is an actor beside the file."""
        self.originals = originals
        self.dedupe = dedupe

    def __call__(self, batch: pa.Table) -> pa.Table:
        import ray

        began = time.perf_counter()
        columns = batch.select(["id", "uri", "payload", "reason"]).to_pydict()
        good = [row for row, reason in enumerate(columns["reason"]) if not reason]
        payloads = {row: json.loads(columns["payload"][row]) for row in good}
        asked = [
            (columns["id"][row], columns["uri"][row], ours["sha256"], ours["look"])
            for row, ours in ((row, payloads[row][OURS]) for row in good)
        ]
        found: list[Duplicate | None] = ray.get(self.originals.decide_all.remote(asked))
        told = [""] * len(batch)
        for row, one in zip(good, found):
            if one is None:
                continue
            told[row] = json.dumps(asdict(one))
            if self.dedupe == "skip":
                columns["reason"][row] = SKIPPED
            elif self.dedupe == "mark":
                payloads[row][OURS].update(duplicate_of=one.of, duplicate=one.kind)
                columns["payload"][row] = json.dumps(payloads[row])
        if any(told):
            batch = replaced(batch, "payload", pa.array(columns["payload"], pa.string()))
            batch = replaced(batch, "reason", pa.array(columns["reason"], pa.string()))
        if self.dedupe == "skip" and any(told):
            pixels = batch["pixels"].to_pylist()
            left = [b"" if double else one for double, one in zip(told, pixels)]
            batch = replaced(batch, "pixels", pa.array(left, pa.large_binary()))
        batch = batch.append_column("duplicate", pa.array(told, pa.string()))
        return batch.append_column("dedupe_s", spread(time.perf_counter() - began, len(batch)))


def duplicates_in(batch: pa.Table) -> Iterator[Duplicate]:
    """What a ``Deduplicator`` found; nothing where none had the batch."""
    if "duplicate" in batch.column_names:
        for one in filter(None, batch["duplicate"].to_pylist()):
            yield Duplicate(**json.loads(one))


def outdated_ids(batch: pa.Table) -> list[str]:
    """Of what is skipped, that of which the gallery holds another picture from before."""
    skipped = pa.compute.equal(batch["reason"], SKIPPED)
    held = pa.compute.not_equal(batch["known"], "")
    return list(batch.filter(pa.compute.and_(skipped, held))["id"].to_pylist())
