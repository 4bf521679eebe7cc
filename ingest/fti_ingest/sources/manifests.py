"""Manifests: rows of CSV, JSONL and Parquet files. A bad row comes with what is wrong with it."""

from __future__ import annotations

import csv
import json
import os
import posixpath
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from fti_ingest.sources.filesystems import is_remote, location
from fti_ingest.sources.listing import Item, Listing
from fti_qdrant.errors import BadManifest, first_line
from fti_qdrant.gallery.points import OURS

IMAGE_COLUMN = "image"
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
LARGEST_FIELD = 2**24
INSIDE = ("zip://", "tar://")

Row = dict[str, Any] | str
"""A row, or what is wrong with it."""


def add_manifest(listing: Listing, place: str) -> None:
    """Adds a manifest's rows: ``image`` is a path relative to it, or a URI; the rest is payload.

    Raises BadManifest: it cannot be read, lacks the column ``image``, or has a reserved column.
    """
    path: Path = location(place) if is_remote(place) else Path(place)  # type: ignore[assignment]
    readers = {".csv": csv_rows, ".parquet": parquet_rows}
    rows = readers.get(path.suffix.lower(), json_rows)(path)
    item = (
        partial(_remote_item, root=str(path.parent))
        if is_remote(place)
        else partial(_item, root=path.parent.resolve())
    )
    try:
        for number, row in rows:
            where = f"{path}:{number}"
            if isinstance(row, str):
                listing.reject(where, row)
                continue
            image = row.pop(IMAGE_COLUMN, None)
            if OURS in row:
                raise BadManifest(f"{where}: the column {OURS!r} is reserved; rename it")
            if not isinstance(image, str) or not image.strip():
                listing.reject(where, f"no {IMAGE_COLUMN!r} value")
                continue
            if image.strip().startswith(INSIDE):
                listing.reject(where, f"{image.strip()!r}: ingest the archive itself, as SOURCE")
                continue
            listing.add(item(image.strip(), payload=row), where)
    except BadManifest:
        raise
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        reason = first_line(error)
        raise BadManifest(f"manifest {str(path)!r} cannot be read: {reason}") from error


def _item(image: str, root: Path, payload: dict[str, Any]) -> Item:
    """The key is relative to the manifest for files below it: ``./a.jpg`` is ``a.jpg``."""
    if is_remote(image):
        return Item(image, image, payload)
    file = Path(os.path.normpath(root / image))
    key = file.relative_to(root) if file.is_relative_to(root) else file
    return Item(key.as_posix(), str(file), payload)


def _remote_item(image: str, root: str, payload: dict[str, Any]) -> Item:
    """The same for a manifest at a URI; paths without a scheme are on its filesystem."""
    if is_remote(image):
        uri = image
    elif image.startswith("/"):
        scheme, _, rest = root.partition("://")
        uri = f"{scheme}://{rest.split('/')[0]}{posixpath.normpath(image)}"
    else:
        uri = f"{root.rstrip('/')}/{posixpath.normpath(image)}"
    return Item(uri.removeprefix(root.rstrip("/") + "/"), uri, payload)


def json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number, row) pairs of a JSONL file. Raises BadManifest if no line has an image."""
    named = False
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            row = _json_row(line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
            if row is not None:
                named = named or (isinstance(row, dict) and IMAGE_COLUMN in row)
                yield number, row
    if not named:
        raise BadManifest(f"manifest {str(path)!r}: no line is an object with {IMAGE_COLUMN!r}")


def _json_row(line: bytes) -> Row | None:
    try:
        text = line.decode()
        row = json.loads(text) if text.strip() else None
    except UnicodeDecodeError:
        return "the line is not UTF-8 text"
    except (ValueError, RecursionError) as error:
        return f"not JSON: {error}"
    if row is None and not text.strip():
        return None
    return row if isinstance(row, dict) else "not a JSON object"


def parquet_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(row number, row) pairs of a Parquet file, read in batches."""
    from pyarrow import parquet

    with path.open("rb") as opened, parquet.ParquetFile(opened) as file:
        _check_columns(path, file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number, row) pairs of a CSV file. A column has a type if all its values have it.

    The file is read twice, because the last row may decide the type, and a million rows should not
    be held in memory.
    """
    columns: list[_Column] = []
    for _, fields in _csv_fields(path):
        if isinstance(fields, dict):
            columns = columns or [_Column() for _ in fields]
            for column, text in zip(columns, fields.values()):
                column.see(text)
    for number, fields in _csv_fields(path):
        if isinstance(fields, str):
            yield number, fields
            continue
        row = {
            name: text if name == IMAGE_COLUMN else column.parse(text)
            for column, (name, text) in zip(columns, fields.items())
            if name and text  # pandas writes its index as a column without a name
        }
        yield number, row


def _csv_fields(path: Path) -> Iterator[tuple[int, dict[str, str] | str]]:
    csv.field_size_limit(LARGEST_FIELD)
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        reader = csv.reader(file, strict=True)
        names = [name.strip() for name in next(reader, [])]
        _check_columns(path, names)
        while True:
            began = reader.line_num + 1
            try:
                fields = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if "unexpected end" in str(error):
                    raise BadManifest(
                        f"{path}:{began}: a quote opens here and is never closed"
                    ) from error
                yield began, f"not CSV: {error}"
                continue
            if fields and len(fields) != len(names):
                yield began, f"{len(fields)} fields, and the header names {len(names)}"
            elif fields and not _is_text(fields):
                yield began, "the line is not UTF-8 text"
            elif fields:
                yield began, dict(zip(names, fields))


def _is_text(fields: list[str]) -> bool:
    try:
        "".join(fields).encode()
    except UnicodeEncodeError:
        return False
    return True


class _Column:
    """The type of a CSV column. Numbers in other notations (007, 1_000) stay texts."""

    TYPES: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
        (re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII), int),
        (
            re.compile(r"[+-]?((0|[1-9]\d{0,17})(\.\d*)?|\.\d+)(e[+-]?\d+)?|nan", re.I | re.A),
            float,
        ),
        (re.compile(r"true|false", re.I), lambda text: text.lower() == "true"),
    )

    def __init__(self) -> None:
        self._fitting = list(self.TYPES)

    def see(self, text: str) -> None:
        if text and self._fitting:
            self._fitting = [one for one in self._fitting if one[0].fullmatch(text)]

    def parse(self, text: str) -> Any:
        return self._fitting[0][1](text) if self._fitting else text


def _check_columns(path: Path, names: list[str]) -> None:
    if IMAGE_COLUMN not in names:
        raise BadManifest(
            f"manifest {str(path)!r} has no column {IMAGE_COLUMN!r}; its columns are "
            f"{', '.join(names) or 'none'}"
        )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise BadManifest(f"manifest {str(path)!r} has two columns {twice[0]!r}; rename one")
