"""A listed source: its images, in a file, and whatever else is in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fti_ingest.sources.column_types import Column, index_types
from fti_ingest.sources.scratch_folder import Scratch
from fti_qdrant.gallery import IndexType
from fti_qdrant.gallery.points import Payload

ITEM_SCHEMA = pa.schema([("id", pa.string()), ("uri", pa.string()), ("payload", pa.string())])

ITEMS_FILE, REJECTS_FILE = "items.arrow", "rejects.jsonl"


@dataclass(frozen=True)
class Item:
    """One image to ingest.

    Attributes:
        key: path or URI relative to the source; its uuid5 is the point id, unless a column says it.
        uri: where the bytes are, for ``fetch.read_batch``: an absolute path, or a URI.
    """

    key: str
    uri: str
    payload: Payload = field(default_factory=dict)


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
        columns: the payload fields, each with its type.
        kept: short ids of files that are there and are not ingested: none of their points is
            pruned.
        kept_archives: archives that are there and were not looked into, likewise.
        other_files: number of files that are no images, by suffix.
        other_rejects: those of them that are among the rejects: they could have been images.
        unlisted: the first part of the source that could not be listed; None where all was.
        own: for a source at a URI, the folder that the user named; what is below may be read.
    """

    scratch: Scratch
    columns: tuple[Column, ...]
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
    def indexes(self) -> dict[str, IndexType]:
        """Payload fields whose values are all of one type that Qdrant can index."""
        return index_types(self.columns)

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
