"""CSV files: values are texts, without the blanks around them."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from fti_ingest.sources.tables.rows import (
    IMAGE_COLUMN,
    NumberedRows,
    image_column,
    printable,
)
from fti_ingest.sources.text import SAVE_AS_UTF8, check_utf8
from fti_qdrant.errors import BadManifest

LARGEST_FIELD = 2**24
OTHER_DELIMITERS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}
BLANKS_AFTER_QUOTE = re.compile(r'"[ \t]+(?=[,\r\n]|$)')


def csv_rows(path: Path, image_columns: Sequence[str] = (IMAGE_COLUMN,)) -> NumberedRows:
    """(line number, row) pairs of a CSV file; an empty value is None.

    Raises BadManifest where it cannot be read, or has no such column.
    """
    csv.field_size_limit(LARGEST_FIELD)
    with path.open("rb") as opened:
        head = opened.read(4)
    try:
        check_utf8(head)
    except ValueError as error:
        raise BadManifest(f"manifest {str(path)!r} cannot be read: {error}") from None
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as file:
        records = _records(path, file)
        _, header = next(records, (1, []))
        names = [name.strip() for name in header] if not isinstance(header, str) else []
        column = image_column(path, names, image_columns, _delimiter_hint(names))
        if not _is_text(names):
            raise BadManifest(
                f"manifest {str(path)!r}: its columns' names are not UTF-8 text; {SAVE_AS_UTF8}"
            )
        chosen = names.index(column)
        names = ["" if name == IMAGE_COLUMN else name for name in names]
        names[chosen] = IMAGE_COLUMN
        for number, fields in records:
            if isinstance(fields, str):
                yield number, fields
            elif fields and len(fields) != len(names):
                yield number, f"{len(fields)} fields, and the header names {len(names)}"
            elif fields and not _is_text(fields):
                yield number, f"the line is not UTF-8 text (Latin-1?); {SAVE_AS_UTF8}"
            elif fields:
                values = zip(names, map(str.strip, fields))
                # pandas writes its index as a column without a name; a second image is none either
                yield number, {name: value or None for name, value in values if name}


def _records(path: Path, file: Iterable[str]) -> Iterator[tuple[int, list[str] | str]]:
    """Each record with the number of its first line; a string says what is wrong with one."""
    lines: list[str] = []

    def recorded() -> Iterator[str]:
        for line in file:
            lines.append(line)
            yield line

    reader = csv.reader(recorded(), strict=True, skipinitialspace=True)
    while True:
        began = reader.line_num + 1
        lines.clear()
        try:
            yield began, next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            if "unexpected end" in str(error):
                raise BadManifest(
                    f"{path}:{began}: a quote opens here and is never closed"
                ) from error
            yield began, _without_blanks("".join(lines)) or f"not CSV: {error}"


def _without_blanks(record: str) -> list[str]:
    """The fields of a record with blanks behind its quotes; empty where it is not CSV either."""
    tidy = io.StringIO(BLANKS_AFTER_QUOTE.sub('"', record), newline="")
    try:
        rows = list(csv.reader(tidy, strict=True, skipinitialspace=True))
    except csv.Error:
        return []
    return rows[0] if len(rows) == 1 else []


def _delimiter_hint(names: list[str]) -> str:
    header = "".join(names)
    for sign, plural in OTHER_DELIMITERS.items():
        if sign in header and len(names) <= header.count(sign):
            return f". They are separated by {plural}: write the file with commas"
    return ""


def _is_text(fields: list[str]) -> bool:
    joined = "".join(fields)
    return printable(joined) == joined
