"""The list of what to ingest, written to a temporary file: no source is too large for memory."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fti_ingest.sources.id_set import SeenIds, short_id
from fti_ingest.sources.payloads import IndexTypes, plain
from fti_ingest.sources.scratch_folder import Scratch
from fti_qdrant.gallery import IndexType, point_id
from fti_qdrant.gallery.points import Payload

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".avif", ".webp", ".tif", ".tiff"),
    *(".png", ".gif", ".bmp", ".ico", ".ppm", ".pgm", ".pbm"),
)

ITEM_SCHEMA = pa.schema([("id", pa.string()), ("uri", pa.string()), ("payload", pa.string())])
CHUNK = 4096
"""Rows that wait as Python objects; all others are in the file, about 250 bytes each."""

ITEMS_FILE, REJECTS_FILE = "items.arrow", "rejects.jsonl"


def is_image_name(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


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
        complete: whether all of the source could be listed.
        own: for a source at a URI, the folder that the user named; what is below may be read.
    """

    scratch: Scratch
    indexes: dict[str, IndexType]
    reject_count: int
    complete: bool = True
    own: str = ""

    @property
    def path(self) -> Path:
        """The file with the images."""
        return self.scratch.path / ITEMS_FILE

    @cached_property
    def table(self) -> pa.Table:
        """A row for each image, of ``ITEM_SCHEMA``, the payload as JSON; memory-mapped."""
        return mapped(self.path)

    def rejects(self) -> Iterator[Reject]:
        """Bad rows of a manifest, unreadable folders, and images that are listed twice."""
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
        self._waiting: list[tuple[str, str, str, Payload, str]] = []
        self._seen = SeenIds()
        self._types = IndexTypes()
        self._complete = True
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
            self.reject(item.uri, prefix + reason)
            return
        except OverflowError as error:
            self.reject(item.uri, f"{prefix}{error}")
            return
        except RecursionError:
            self.reject(item.uri, f"{prefix}the payload is nested too deeply")
            return
        self._waiting.append((identity, item.uri, text, item.payload, prefix))
        if len(self._waiting) == CHUNK:
            self._pack()

    def reject(self, uri: str, reason: str) -> None:
        """Something that should be an image, or list images, and does not."""
        self._complete = False
        self._note(uri, reason)

    def _note(self, uri: str, reason: str) -> None:
        self._reject_count += 1
        printable = uri.encode(errors="backslashreplace").decode()
        self._rejects.write(json.dumps([printable, reason]) + "\n")

    def source(self) -> Source:
        self._pack()
        self._items.close()
        self._rejects.close()
        types = self._types.found()
        return Source(self._scratch, types, self._reject_count, self._complete, self.own)

    def _pack(self) -> None:
        """Writes the waiting rows; an image that was listed before becomes a reject."""
        if not self._waiting:
            return
        short = np.array([short_id(row[0]) for row in self._waiting], dtype=np.uint64)
        kept = []
        for row, new in zip(self._waiting, self._seen.add(short)):
            if not new:
                self._note(row[1], f"{row[4]}the image is listed twice; the first one counts")
                continue
            self._types.see(row[3])
            kept.append(row[:3])
        self._waiting = []
        if kept:
            columns = [pa.array(column, pa.string()) for column in zip(*kept)]
            self._items.write_batch(pa.RecordBatch.from_arrays(columns, schema=ITEM_SCHEMA))
