"""Images that are there already, byte for byte or nearly: found as they pass, in source order."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from fti_ingest.reasons import SKIPPED
from fti_qdrant.gallery.points import OURS, Payload

if TYPE_CHECKING:
    from PIL import Image

Dedupe = Literal["keep", "mark", "skip"]
"""What becomes of a duplicate: stored as any image, stored with a note, or not stored."""

BANDS, BAND_BITS = 4, 16
"""A perceptual hash's 64 bits, cut."""

NEAR_BITS = 7
"""So many of them may differ: then in some band at most one does, and all such bands are asked
for. (Two pictures have some 32 in which they differ; the same one saved anew seldom more than 6.)
"""

TABLES = """
    pragma journal_mode = wal;
    pragma synchronous = off;
    create table if not exists images (
        id text primary key, uri text, sha text, hash text, original text, kind text);
    create index if not exists by_sha on images (sha);
    create table if not exists bands (band integer, value integer, hash text, id text);
    create index if not exists by_band on bands (band, value);
"""

NEAR_BAND = (
    f"select hash, id from bands where band = ? and value in ({', '.join('?' * (BAND_BITS + 1))})"
)


@dataclass(frozen=True)
class Duplicate:
    """An image that is there already.

    Attributes:
        of: id of the first such image.
        kind: ``exact`` for the same bytes, ``near`` for nearly the same picture.
    """

    id: str
    uri: str
    of: str
    of_uri: str
    kind: str


def perceptual_hash(picture: Image.Image) -> str:
    """imagehash's 64 bits of a picture's low frequencies, as 16 hex digits."""
    import imagehash

    return str(imagehash.phash(picture))


class Originals:
    """The images so far that are nobody's duplicates, in a file: memory stays flat.

    A decision is kept with its image, so that asking again, after a crash, gives it again.
    """

    def __init__(self, path: str):
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript(TABLES)

    def noting(self, held: Iterable[tuple[str, Payload]]) -> Iterator[tuple[str, Payload]]:
        """What a gallery holds comes first; each is handed on as it was."""
        self._db.execute("begin")
        for id, payload in held:
            ours = payload.get(OURS, {})
            of, kind = ours.get("duplicate_of", ""), ours.get("duplicate", "")
            hashes = (ours.get("sha256", ""), ours.get("phash", ""))
            self._insert(id, ours.get("uri", ""), *hashes, of, kind)
            yield id, payload
        self._db.execute("commit")

    def close(self) -> None:
        self._db.close()

    def decide_all(self, images: Sequence[tuple[str, str, str, str]]) -> list[Duplicate | None]:
        """``decide`` for each, in this order."""
        self._db.execute("begin")
        found = [self.decide(*one) for one in images]
        self._db.execute("commit")
        return found

    def decide(self, id: str, uri: str, sha256: str, phash: str) -> Duplicate | None:
        """Takes note of an image; what it duplicates, if anything."""
        row = self._db.execute(
            "select sha, original, kind from images where id = ?", (id,)
        ).fetchone()
        if row is not None and row[0] == sha256:
            return self._duplicate(id, uri, row[1], row[2]) if row[1] else None
        if row is not None:  # it was another picture
            self._db.execute("delete from images where id = ?", (id,))
            self._db.execute("delete from bands where id = ?", (id,))
        of, kind = self._find(sha256, phash)
        self._insert(id, uri, sha256, phash, of, kind)
        return self._duplicate(id, uri, of, kind) if of else None

    def _duplicate(self, id: str, uri: str, of: str, kind: str) -> Duplicate:
        (of_uri,) = self._db.execute("select uri from images where id = ?", (of,)).fetchone()
        return Duplicate(id, uri, of, of_uri, kind)

    def _find(self, sha256: str, phash: str) -> tuple[str, str]:
        """Id of the original and the kind, or two empty texts."""
        same = self._db.execute(
            "select id from images where sha = ? and original = '' limit 1", (sha256,)
        ).fetchone()
        if same is not None:
            return same[0], "exact"
        if not phash:
            return "", ""
        asked = int(phash, 16)
        best = (NEAR_BITS + 1, "")
        for band, value in enumerate(_bands(asked)):
            for text, id in self._db.execute(NEAR_BAND, (band, *_almost(value))):
                best = min(best, ((int(text, 16) ^ asked).bit_count(), id))
        return (best[1], "near") if best[1] else ("", "")

    def _insert(self, id: str, uri: str, sha256: str, phash: str, of: str, kind: str) -> None:
        row = (id, uri, sha256, phash, of, kind)
        self._db.execute("insert or replace into images values (?, ?, ?, ?, ?, ?)", row)
        if phash and not of:
            rows = [(band, value, phash, id) for band, value in enumerate(_bands(int(phash, 16)))]
            self._db.executemany("insert into bands values (?, ?, ?, ?)", rows)


def _bands(value: int) -> Iterator[int]:
    for band in range(BANDS):
        yield (value >> (band * BAND_BITS)) & ((1 << BAND_BITS) - 1)


def _almost(value: int) -> Iterator[int]:
    """A band, and all that differ from it in one bit."""
    yield value
    for bit in range(BAND_BITS):
        yield value ^ (1 << bit)


class Deduplicator:
    """Stage 2 where asked for, one actor, that sees all images in source order.

    Adds the column ``duplicate``: empty, or a ``Duplicate`` as JSON.
    """

    def __init__(self, originals: Any, dedupe: Dedupe):
        """``originals`` is an actor beside the file."""
        self.originals = originals
        self.dedupe = dedupe

    def __call__(self, batch: pa.Table) -> pa.Table:
        import ray

        columns = batch.select(["id", "uri", "payload", "reason"]).to_pydict()
        good = [row for row, reason in enumerate(columns["reason"]) if not reason]
        payloads = {row: json.loads(columns["payload"][row]) for row in good}
        asked = [
            (columns["id"][row], columns["uri"][row], ours["sha256"], ours["phash"])
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
        return batch.append_column("duplicate", pa.array(told, pa.string()))


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
