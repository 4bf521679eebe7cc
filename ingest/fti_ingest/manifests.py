"""Manifests: the rows of CSV, JSONL and Parquet files, each bad one with what is wrong with it."""

from __future__ import annotations

import csv
import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from fti_ingest.listing import Item, Listing, Source
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery.points import OURS
from fti_qdrant.images.source import is_url

IMAGE_COLUMN = "image"
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
LARGEST_FIELD = 2**24

Row = dict[str, Any] | str
"""A row, or what is wrong with it."""


def read_manifest(path: Path) -> Source:
    """Lists a manifest: ``image`` names a path relative to it or a URL, the rest is payload.

    Raises BadManifest: not readable, no ``image`` column, or a column that we reserve.
    """
    readers = {".csv": csv_rows, ".parquet": parquet_rows}
    rows = readers.get(path.suffix.lower(), json_rows)(path)
    root = path.parent.resolve()
    listing = Listing()
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
            listing.add(_item(image.strip(), root, row), where)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadManifest(f"manifest {str(path)!r} cannot be read: {reason}") from error
    return listing.source()


def _item(image: str, root: Path, payload: dict[str, Any]) -> Item:
    """The key is relative to the manifest where the file is: ``./a.jpg`` is ``a.jpg``."""
    if is_url(image):
        return Item(image, image, payload)
    file = Path(os.path.normpath(root / image))
    key = file.relative_to(root) if file.is_relative_to(root) else file
    return Item(key.as_posix(), str(file), payload)


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
    """(row number, row) pairs, read piece by piece."""
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        _check_columns(path, file.schema_arrow.names)
        number = 0
        for batch in file.iter_batches(batch_size=1024):
            for row in batch.to_pylist():
                number += 1
                yield number, row


def csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """(line number, row) pairs; a column is of a type where all its values are.

    The file is read twice: the last row decides too, and a million rows need not be held.
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
    """The type of a CSV column. Numbers written otherwise (007, 1_000) stay texts."""

    TYPES: tuple[tuple[re.Pattern[str], Callable[[str], Any]], ...] = (
        (re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII), int),
        (re.compile(r"[+-]?(0|[1-9]\d{0,17})?(\.\d+)?(e[+-]?\d+)?|nan", re.I | re.A), float),
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
