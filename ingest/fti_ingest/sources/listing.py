"""Builds the list of what to ingest, in a temporary file: no source is too large for memory."""

from __future__ import annotations

import json
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pyarrow as pa

from fti_ingest.sources.column_types import Columns, convert_payload, types_of_texts
from fti_ingest.sources.id_set import SeenIds, short_id
from fti_ingest.sources.image_files import suffix_of
from fti_ingest.sources.payloads import payload_text
from fti_ingest.sources.point_keys import BY_PATH, PointKeys
from fti_ingest.sources.scratch_folder import Scratch
from fti_ingest.sources.source import (
    ITEM_SCHEMA,
    ITEMS_FILE,
    REJECTS_FILE,
    Item,
    Reject,
    Source,
    mapped,
)
from fti_ingest.sources.tables.rows import IMAGE_COLUMN
from fti_ingest.sources.value_kinds import ColumnType
from fti_qdrant.gallery.layout import Payload
from fti_qdrant.images.fetch import without_span

CHUNK = 4096
"""Rows that wait as Python objects; all others are in the file, about 250 bytes each."""

ROW_SCHEMA = ITEM_SCHEMA.append(pa.field("where", pa.string()))
ROWS_FILE = "rows.arrow"
"""Rows whose values are still to become what their columns are: only the last row decides that."""

NOT_UTF8 = "the name is not UTF-8; rename the file or correct the row"
LISTED_TWICE = "the image is listed twice; the first one counts"
SAME_BUT_FOR_SLASHES = (
    "its name and that of an image listed before differ only in \\ and /, which count as the same "
    "in an image's id; rename one of them"
)


class Listing:
    """Builds a ``Source``; an item that cannot be stored becomes a reject.

    Attributes:
        own: ``Source.own``.
        texts: payload values are texts, as in a CSV file; set before the first item is added.
        image_columns: columns of a manifest that may name the images; the first that is there does.
    """

    def __init__(
        self,
        types: Mapping[str, ColumnType] | None = None,
        image_problem: Callable[[str], str] = lambda uri: "",
        keys: PointKeys = BY_PATH,
    ) -> None:
        """Args:
        types: of columns that the user has chosen; else values decide.
        image_problem: why the image at a URI cannot be read; empty where it can.
        keys: what ids are made of.
        """
        self.keys = keys
        self.own = ""
        self.texts = False
        self.image_columns: tuple[str, ...] = (IMAGE_COLUMN,)
        self._chosen = dict(types or {})
        self._image_problem = image_problem
        self._scratch = Scratch()
        self._rejects = (self._scratch.path / REJECTS_FILE).open("w", encoding="utf-8")
        self._reject_count = 0
        self._waiting: list[tuple[str, Item, str, str]] = []
        self._file: Any = None
        self._columns: Columns | None = None
        self._seen = SeenIds()
        self._backslashed: dict[int, str] = {}
        self._kept = array("Q")
        self._kept_archives: set[str] = set()
        self._other_files: Counter[str] = Counter()
        self._other_rejects = 0
        self._unlisted: Reject | None = None

    def add(self, item: Item, where: str = "") -> None:
        """``where`` is the item's line in its manifest, for messages."""
        try:
            text = payload_text(item.payload)
            if self._chosen:
                text = json.dumps(convert_payload(json.loads(text), self._chosen))
            item.uri.encode()  # fails for lone surrogates, which no store accepts
        except UnicodeError:
            self.reject_image(item, NOT_UTF8, where)
        except ValueError as error:
            self.reject_image(item, str(error), where)
        else:
            self._add(item, text, where)

    def _add(self, item: Item, text: str, where: str) -> None:
        try:
            id = self.keys.id_of(item.key, item.payload)
        except UnicodeError:
            self.reject_image(item, NOT_UTF8, where)
        except ValueError as error:
            self.reject(item.uri, _located(str(error), where))
        else:
            self._waiting.append((id, item, text, where))
            if len(self._waiting) == CHUNK:
                self._pack()

    def reject(self, uri: str, reason: str) -> None:
        """A part of the source that cannot be listed, so that nobody knows which images it has."""
        self._unlisted = self._unlisted or Reject(_printable(uri), reason)
        self.note(uri, reason)

    def reject_image(self, item: Item, reason: str, where: str = "") -> None:
        """An image that is there and cannot be stored: what the gallery has of it stays."""
        self._keep(item.key, item.uri, item.payload)
        self.note(item.uri, _located(reason, where))

    def leave_out(self, key: str, uri: str, reason: str = "") -> None:
        """A file that is no image; with a reason, it is also listed among the rejects."""
        self._other_files[suffix_of(key)] += 1
        self._keep(key, uri)
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
        """Raises BadManifest where a type is chosen for a column that is not there."""
        self._pack()
        columns = self._open_columns().found()
        self._open_file().close()
        if self.texts:
            self._convert(types_of_texts(columns))
        self._rejects.close()
        return Source(
            self._scratch,
            tuple(columns),
            self._reject_count,
            np.array(self._kept, dtype=np.uint64),
            frozenset(self._kept_archives),
            dict(self._other_files.most_common()),
            self._other_rejects,
            self._unlisted,
            self.own,
        )

    @property
    def _schema(self) -> pa.Schema:
        return ROW_SCHEMA if self.texts else ITEM_SCHEMA

    def _open_columns(self) -> Columns:
        if self._columns is None:
            self._columns = Columns(self._chosen, self.texts, self._image_problem)
        return self._columns

    def _open_file(self) -> Any:
        if self._file is None:
            path = self._scratch.path / (ROWS_FILE if self.texts else ITEMS_FILE)
            self._file = pa.ipc.new_file(str(path), self._schema)
        return self._file

    def _keep(self, key: str, uri: str, payload: Payload | None = None) -> None:
        """Remembers that the point of this image stays, if there is one."""
        try:
            self._kept.append(short_id(self.keys.id_of(key, payload or {})))
        except UnicodeError:  # no point has such a key
            return
        except ValueError as error:  # nobody knows which point it would be
            self._unlisted = self._unlisted or Reject(_printable(uri), str(error))

    def _pack(self) -> None:
        """Writes the waiting rows; an image that was listed before becomes a reject."""
        if not self._waiting:
            return
        short = np.array([short_id(row[0]) for row in self._waiting], dtype=np.uint64)
        columns = self._open_columns()
        kept = []
        for (identity, item, text, where), one, new in zip(
            self._waiting, short.tolist(), self._seen.add(short)
        ):
            if not new:
                self.note(item.uri, _located(self._why_known(one, item.key), where))
                continue
            if "\\" in item.key:
                self._backslashed[one] = item.key
            columns.see(item.payload, where or item.key, item.uri)
            kept.append((identity, item.uri, text, where))
        self._waiting = []
        if kept:
            self._open_file().write_batch(_batch(list(zip(*kept)), self._schema))

    def _why_known(self, short: int, key: str) -> str:
        """Why an image counts as listed before; of the earlier ones only odd keys are in memory."""
        if self.keys.field is not None:
            return f"its {self.keys.field!r} is listed twice; the first one counts"
        alike = self._backslashed.get(short, key.replace("\\", "/")) == key
        return LISTED_TWICE if alike else SAME_BUT_FOR_SLASHES

    def _convert(self, types: Mapping[str, ColumnType]) -> None:
        """Writes all rows again, with values of their columns' types."""
        path = self._scratch.path / ROWS_FILE
        with pa.ipc.new_file(str(self._scratch.path / ITEMS_FILE), ITEM_SCHEMA) as file:
            for batch in mapped(path).to_batches():
                if not types:
                    file.write_batch(batch.select(ITEM_SCHEMA.names))
                    continue
                kept = []
                for row in batch.to_pylist():
                    try:
                        payload = json.dumps(convert_payload(json.loads(row["payload"]), types))
                    except ValueError as error:
                        self._kept.append(short_id(row["id"]))
                        problem = self._open_columns().problems.get(row["uri"])
                        self.note(row["uri"], problem or _located(str(error), row["where"]))
                    else:
                        kept.append((row["id"], row["uri"], payload))
                if kept:
                    file.write_batch(_batch(list(zip(*kept)), ITEM_SCHEMA))
        path.unlink()


def _batch(columns: list[Any], schema: pa.Schema) -> pa.RecordBatch:
    arrays = [pa.array(column, pa.string()) for column in columns[: len(schema)]]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _located(reason: str, where: str) -> str:
    return f"{where}: {reason}" if where else reason


def _printable(uri: str) -> str:
    """As it is written to a file; names that are not UTF-8 hold surrogates."""
    return without_span(uri).encode(errors="backslashreplace").decode()
