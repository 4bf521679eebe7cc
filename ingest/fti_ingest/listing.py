"""What is to be ingested, as it is collected: compact, and with each row's flaw beside it."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from fti_ingest.payloads import IndexTypes, plain
from fti_qdrant.gallery import IndexType, point_id
from fti_qdrant.gallery.points import Payload

ITEM_SCHEMA = pa.schema([("id", pa.string()), ("uri", pa.string()), ("payload", pa.string())])
CHUNK = 4096
"""Rows that wait as Python objects; the others lie in Arrow tables, some 250 bytes each."""


@dataclass(frozen=True)
class Item:
    """One image to ingest.

    Attributes:
        key: path or URI relative to the source; its uuid5 is the point id.
        uri: where the bytes are: an absolute path, or a URL.
    """

    key: str
    uri: str
    payload: Payload = field(default_factory=dict)

    @property
    def id(self) -> str:
        return point_id(self.key)


@dataclass(frozen=True)
class Reject:
    """Something that could not be ingested, and why."""

    uri: str
    reason: str


@dataclass(frozen=True)
class Source:
    """A listed source.

    Attributes:
        table: a row for each image, of ``ITEM_SCHEMA``; the payload as JSON.
        rejects: what names no image: bad rows of a manifest, duplicates.
        indexes: payload fields whose values are all of one type that Qdrant can index.
        complete: whether all of it could be listed; duplicates do no harm here.
    """

    table: pa.Table
    rejects: list[Reject]
    indexes: dict[str, IndexType]
    complete: bool = True

    def __len__(self) -> int:
        return int(self.table.num_rows)

    def rows(self) -> Iterator[dict[str, Any]]:
        """The images with parsed payloads, for a look at a small source."""
        for row in self.table.to_pylist():
            yield {**row, "payload": json.loads(row["payload"])}


class Listing:
    """Collects a ``Source``; an item that cannot be stored becomes a reject."""

    def __init__(self) -> None:
        self._chunks: list[pa.RecordBatch] = []
        self._waiting: list[tuple[str, str, str]] = []
        self._rejects: list[Reject] = []
        self._seen: set[bytes] = set()
        self._types = IndexTypes()
        self._complete = True

    def add(self, item: Item, where: str = "") -> None:
        """``where`` is the item's place in its manifest, for messages."""
        prefix = f"{where}: " if where else ""
        try:
            payload = {name: plain(value) for name, value in item.payload.items()}
            text = json.dumps({k: v for k, v in payload.items() if v is not None})
            for one in (item.uri, json.dumps(payload, ensure_ascii=False)):
                one.encode()  # lone surrogates, which no store takes
            identity = item.id
        except UnicodeError:
            reason = "a name or value is not UTF-8; rename the file or mend the row"
            self.reject(item.uri, prefix + reason)
            return
        except RecursionError:
            self.reject(item.uri, f"{prefix}the payload is nested too deeply")
            return
        if (short := uuid.UUID(identity).bytes) in self._seen:
            self._note(item.uri, f"{prefix}the image is listed twice; the first one counts")
            return
        self._seen.add(short)
        self._types.see(item.payload)
        self._waiting.append((identity, item.uri, text))
        if len(self._waiting) == CHUNK:
            self._pack()

    def reject(self, uri: str, reason: str) -> None:
        """Something that should name images and does not."""
        self._complete = False
        self._note(uri, reason)

    def _note(self, uri: str, reason: str) -> None:
        self._rejects.append(Reject(uri.encode(errors="backslashreplace").decode(), reason))

    def source(self) -> Source:
        self._pack()
        table = pa.Table.from_batches(self._chunks, schema=ITEM_SCHEMA)
        return Source(table, self._rejects, self._types.found(), self._complete)

    def _pack(self) -> None:
        if self._waiting:
            columns = [pa.array(column, pa.string()) for column in zip(*self._waiting)]
            self._chunks.append(pa.RecordBatch.from_arrays(columns, schema=ITEM_SCHEMA))
            self._waiting = []
