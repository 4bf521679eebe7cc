"""JSONL files: one JSON object on each line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from fti_ingest.sources.tables.rows import IMAGE_COLUMN, NumberedRows, Row, either
from fti_ingest.sources.text import BOM, check_utf8, utf8_text
from fti_qdrant.errors import BadManifest, first_line
from fti_qdrant.gallery.points import OURS
from fti_qdrant.unique_names import unique_names

HEAD = 4096
"""Bytes of a file that tell what kind of JSON it is."""


def one_each(column: str = IMAGE_COLUMN) -> str:
    """What is asked for, as a part of a message."""
    return f'a manifest has one object on each line, such as {{"{column}": "a.jpg"}}'


def json_rows(path: Path, image_columns: Sequence[str] = (IMAGE_COLUMN,)) -> NumberedRows:
    """(line number, row) pairs of a JSONL file.

    Raises BadManifest where it is no such file, or no line has an image.
    """
    named = usable = False
    with path.open("rb") as file:
        head = file.read(HEAD)
        _check(path, head)
        file.seek(0)
        for number, line in enumerate(file, 1):
            row = _row(line)
            if row is None:
                continue
            if isinstance(row, dict):
                column = next((name for name in image_columns if name in row), None)
                named = named or column is not None
                if column is not None:
                    row[IMAGE_COLUMN] = row.pop(column)
                if OURS in row:
                    row = f"the field {OURS!r} is reserved; rename it"
            usable = usable or isinstance(row, dict)
            yield number, row
    if not named:
        raise BadManifest(
            f"manifest {str(path)!r}: no line is an object with {either(image_columns)}"
            f"{_over_several_lines(head)}; {one_each(image_columns[0])}"
        )
    if not usable:
        raise BadManifest(f"manifest {str(path)!r}: the field {OURS!r} is reserved; rename it")


unique_fields = unique_names(lambda name: ValueError(f"the field {name!r} occurs twice"))
"""For ``json.loads``; raises ValueError where a field occurs twice."""


def _row(line: bytes) -> Row | None:
    """None for an empty line."""
    try:
        text = utf8_text(line)
    except ValueError as error:
        return f"the line cannot be read: {error}"
    if not text.strip():
        return None
    try:
        row = json.loads(text, object_pairs_hook=unique_fields)
    except json.JSONDecodeError as error:
        return f"not JSON: {error}"
    except (ValueError, RecursionError) as error:
        return f"not JSON that can be used: {first_line(error)}"
    return row if isinstance(row, dict) else "not a JSON object"


def _begin(head: bytes) -> bytes:
    return head.removeprefix(BOM).lstrip()


def _over_several_lines(head: bytes) -> str:
    """A remark where the first line is the begin of an object."""
    first = _begin(head).partition(b"\n")[0].strip()
    ends = first.endswith(b"}") or not first.startswith(b"{")
    return "" if ends else " (its objects are written over several lines)"


def _check(path: Path, head: bytes) -> None:
    """Raises BadManifest where a file begins as JSON that is not one object on each line."""
    try:
        check_utf8(head)
    except ValueError as error:
        raise BadManifest(f"manifest {str(path)!r} cannot be read: {error}") from None
    begin = _begin(head)
    first = begin.partition(b"\n")[0].strip()
    if begin.startswith(b"[") and (first == b"[" or begin[1:].lstrip().startswith(b"{")):
        raise BadManifest(f"manifest {str(path)!r} is one JSON array, and {one_each()}")
    if first == b"{":
        raise BadManifest(
            f"manifest {str(path)!r} is JSON with objects over several lines, and {one_each()}"
        )
