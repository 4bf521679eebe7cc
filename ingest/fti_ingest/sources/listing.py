"""The list of what to ingest, written to a temporary file: no source is too large for memory."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fti_ingest.sources.fetch import without_span
from fti_ingest.sources.id_set import SeenIds, short_id
from fti_ingest.sources.image_files import suffix_of
from fti_ingest.sources.payloads import IndexTypes, plain
from fti_ingest.sources.scratch_folder import Scratch
from fti_qdrant.gallery import IndexType, point_id
from fti_qdrant.gallery.points import Payload

ITEM_SCHEMA = pa.schema([("id", pa.string()), ("uri", pa.string()), ("payload", pa.string())])
CHUNK = 4096
"""Rows that wait as Python objects; all others are in the file, about 250 bytes each."""

ITEMS_FILE, REJECTS_FILE = "items.arrow", "rejects.jsonl"

LISTED_TWICE = "the image is listed twice; the first one counts"
SAME_BUT_FOR_SLASHES = (
    "its name and that of an image listed before differ only in \\ and /, which count as the same "
    "in an image's id; rename one of them"
)


@dataclass(frozen=True)
class Item:
    """One image to ingest.

    Attributes:
        key: path or URI relative to the source; its uuid5 is the point id.
        uri: where the bytes are, for ``fetch.read_batch``: an absolute path, or a URI.
    """

    key: str
    uri: str
    payload: Payload = field(default_factory=dict)

    @property
    def id(self) -> str:
        return point_id(self.key)


@dataclass(frozen=True)
class Reject:
    """Something that cannot be ingested, and why."""

    uri: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A listed source. Its temporary folder is removed when the object is.

    Attributes:
        scratch: that folder; other files of the run may be there too.
        indexes: payload fields whose values are all of one type that Qdrant can index.
        kept: short ids of files that are there and are not ingested: none of their points is
            pruned.
        kept_archives: archives that are there and were not looked into, likewise.
        other_files: number of files that are no images, by suffix.
        other_rejects: those of them that are among the rejects: they could have been images.
        unlisted: the first part of the source that could not be listed; None where all was.
        own: for a source at a URI, the folder that the user named; what is below may be read.
    """

    scratch: Scratch
    indexes: dict[str, IndexType]
    reject_count: int
    kept: np.ndarray
    kept_archives: frozenset[str] = frozenset()
    other_files: dict[str, int] = field(default_factory=dict)
    other_rejects: int = 0
    unlisted: Reject | None = None
    own: str = ""

    @property
    def complete(self) -> bool:
        """Whether all of the source could be listed."""
        return self.unlisted is None

    @property
    def path(self) -> Path:
        """The file with the images."""
        return self.scratch.path / ITEMS_FILE

    @cached_property
    def table(self) -> pa.Table:
        """A row for each image, of ``ITEM_SCHEMA``, the payload as JSON; memory-mapped."""
        return mapped(self.path)

    def rejects(self) -> Iterator[Reject]:
        """Whatever is in the source and not in ``table``, but for files that are surely no images.

        Bad rows of a manifest, unreadable folders, files that could be images, and images that are
        listed twice.
        """
        with (self.scratch.path / REJECTS_FILE).open(encoding="utf-8") as file:
            for line in file:
                yield Reject(*json.loads(line))

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The images with parsed payloads, for small sources."""
        for row in self.table.to_pylist():
            yield {**row, "payload": json.loads(row["payload"])}


def mapped(path: Path) -> pa.Table:
    """The table in a listing's file, memory-mapped: the system may reclaim its pages."""
    with pa.memory_map(str(path)) as file:
        return pa.ipc.open_file(file).read_all()


class Listing:
    """Builds a ``Source``; an item that cannot be stored becomes a reject."""

    def __init__(self) -> None:
        self._scratch = Scratch()
        root = self._scratch.path
        self._items = pa.ipc.new_file(str(root / ITEMS_FILE), ITEM_SCHEMA)
        self._rejects = (root / REJECTS_FILE).open("w", encoding="utf-8")
        self._reject_count = 0
        self._waiting: list[tuple[str, Item, str, str]] = []
        self._seen = SeenIds()
        self._backslashed: dict[int, str] = {}
        self._kept = array("Q")
        self._kept_archives: set[str] = set()
        self._other_files: Counter[str] = Counter()
        self._other_rejects = 0
        self._types = IndexTypes()
        self._unlisted: Reject | None = None
        self.own = ""
        """``Source.own``."""

    def add(self, item: Item, where: str = "") -> None:
        """``where`` is the item's line in its manifest, for messages."""
        prefix = f"{where}: " if where else ""
        try:
            payload = {name: plain(value) for name, value in item.payload.items()}
            text = json.dumps({k: v for k, v in payload.items() if v is not None})
            for one in (item.uri, json.dumps(payload, ensure_ascii=False)):
                one.encode()  # fails for lone surrogates, which no store accepts
            identity = item.id
        except UnicodeError:
            reason = "a name or value is not UTF-8; rename the file or correct the row"
            self.reject_image(item, prefix + reason)
            return
        except OverflowError as error:
            self.reject_image(item, f"{prefix}{error}")
            return
        except RecursionError:
            self.reject_image(item, f"{prefix}the payload is nested too deeply")
            return
        self._waiting.append((identity, item, text, prefix))
        if len(self._waiting) == CHUNK:
            self._pack()

    def reject(self, uri: str, reason: str) -> None:
        """A part of the source that cannot be listed, so that nobody knows which images it has."""
        self._unlisted = self._unlisted or Reject(_printable(uri), reason)
        self.note(uri, reason)

    def reject_image(self, item: Item, reason: str) -> None:
        """An image that is there and cannot be stored: what the gallery has of it stays."""
        self._keep(item.key)
        self.note(item.uri, reason)

    def leave_out(self, key: str, uri: str, reason: str = "") -> None:
        """A file that is no image; with a reason, it is also listed among the rejects."""
        self._other_files[suffix_of(key)] += 1
        self._keep(key)
        if reason:
            self._other_rejects += 1
            self.note(uri, reason)

    def leave_out_archive(self, key: str, uri: str, reason: str) -> None:
        """An archive that is not looked into: what the gallery has of it stays."""
        self._kept_archives.add(uri)
        self.leave_out(key, uri, reason)

    def note(self, uri: str, reason: str) -> None:
        """Something to tell that costs no image its listing."""
        self._reject_count += 1
        self._rejects.write(json.dumps([_printable(uri), reason]) + "\n")

    def source(self) -> Source:
        self._pack()
        self._items.close()
        self._rejects.close()
        return Source(
            self._scratch,
            self._types.found(),
            self._reject_count,
            np.array(self._kept, dtype=np.uint64),
            frozenset(self._kept_archives),
            dict(self._other_files.most_common()),
            self._other_rejects,
            self._unlisted,
            self.own,
        )

    def _keep(self, key: str) -> None:
        try:
            self._kept.append(short_id(point_id(key)))
        except UnicodeError:  # no point has such a key
            return

    def _why_known(self, short: int, key: str) -> str:
        """Why an image counts as listed before; of the earlier ones only odd keys are in memory."""
        alike = self._backslashed.get(short, key.replace("\\", "/")) == key
        return LISTED_TWICE if alike else SAME_BUT_FOR_SLASHES

    def _pack(self) -> None:
        """Writes the waiting rows; an image that was listed before becomes a reject."""
        if not self._waiting:
            return
        short = np.array([short_id(row[0]) for row in self._waiting], dtype=np.uint64)
        kept = []
        for (identity, item, text, prefix), one, new in zip(
            self._waiting, short.tolist(), self._seen.add(short)
        ):
            if not new:
                self.note(item.uri, prefix + self._why_known(one, item.key))
                continue
            if "\\" in item.key:
                self._backslashed[one] = item.key
            self._types.see(item.payload)
            kept.append((identity, item.uri, text))
        self._waiting = []
        if kept:
            columns = [pa.array(column, pa.string()) for column in zip(*kept)]
            self._items.write_batch(pa.RecordBatch.from_arrays(columns, schema=ITEM_SCHEMA))


def _printable(uri: str) -> str:
    """As it is written to a file; names that are not UTF-8 hold surrogates."""
    return without_span(uri).encode(errors="backslashreplace").decode()
