"""Composed queries with their answers, in a user's file: reference, text, target."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from fti_ingest.sources.manifests import MANIFEST_SUFFIXES, Manifest
from fti_ingest.sources.tables.rows import IMAGE_COLUMN
from fti_ingest.sources.value_kinds import shortened
from fti_qdrant.errors import BadManifest
from fti_qdrant.images.read import is_url
from fti_training.samples import rows_digest

REFERENCE, TEXT, TARGET = "reference", "text", "target"
COLUMNS = (REFERENCE, TEXT, TARGET)


@dataclass(frozen=True)
class TripletTable:
    """What a file holds.

    Attributes:
        table: columns reference and target (absolute paths, or URIs of files) and text.
        held_out: number of triplets that were left out, as they name a held-out picture.
    """

    table: pa.Table
    held_out: int = 0

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """sha256 of the rows, in order."""
        return rows_digest(self.table)

    @property
    def pictures(self) -> pa.ChunkedArray:
        """``[2N]``: the references of all rows, and then their targets."""
        return pa.chunked_array([*self.table[REFERENCE].chunks, *self.table[TARGET].chunks])

    def texts(self, rows: list[int]) -> list[str]:
        """The modification texts of these rows."""
        texts: list[str] = self.table[TEXT].take(pa.array(rows, pa.int64())).to_pylist()
        return texts

    @cached_property
    def _number(self) -> dict[str, int]:
        numbers: dict[str, int] = {}
        for uri in self.pictures.to_pylist():
            numbers.setdefault(_file(uri), len(numbers))
        return numbers

    def numbers_of(self, uris: Iterable[str]) -> list[int]:
        """A number for each file; -1 for those that no triplet names."""
        return [self._number.get(_file(uri), -1) for uri in uris]

    @cached_property
    def picture_numbers(self) -> list[int]:
        """``[2N]``, ``numbers_of`` all pictures."""
        return self.numbers_of(self.pictures.to_pylist())

    @cached_property
    def query_numbers(self) -> list[int]:
        """``[N]``, the same for rows with the same reference and text: several right answers."""
        queries = zip(self.picture_numbers, self.table[TEXT].to_pylist())
        first: dict[tuple[int, str], int] = {}
        return [first.setdefault(query, row) for row, query in enumerate(queries)]

    def without(self, uris: Collection[str]) -> TripletTable:
        """The triplets that name none of these pictures."""
        held = {_file(uri) for uri in uris}
        references, targets = (self.table[name].to_pylist() for name in (REFERENCE, TARGET))
        named = [{_file(a), _file(b)} for a, b in zip(references, targets)] if held else []
        kept = [not pair & held for pair in named] or [True] * len(self)
        return TripletTable(self.table.filter(pa.array(kept)), self.held_out + kept.count(False))

    def unreadable(self, uris: Collection[str]) -> int:
        """How many of the triplets name one of these pictures."""
        return self.without(uris).held_out - self.held_out


def _file(uri: str) -> str:
    """One name for a file that can be reached by several paths."""
    return uri if "://" in uri else os.path.realpath(uri)


def read_triplets(path: Path) -> TripletTable:
    """Reads a CSV, JSONL or Parquet file; relative paths are relative to its folder.

    Raises BadManifest: missing, of another type, unreadable, without rows, or with a row that
    lacks a picture or the text. No row is left out in silence: a file can be mended before hours
    of training.
    """
    if path.suffix.lower() not in MANIFEST_SUFFIXES:
        raise BadManifest(f"triplets {str(path)!r} are none of {', '.join(MANIFEST_SUFFIXES)}")
    manifest = Manifest(str(path))
    found: list[tuple[str, str, str]] = []
    for number, row in manifest.rows((REFERENCE,)):
        try:
            if isinstance(row, str):
                raise ValueError(row)
            found.append(_triplet(manifest, row))
        except ValueError as error:
            raise BadManifest(
                f"triplets {path}:{number}: {error}; each row has a {REFERENCE}, a {TEXT} and a "
                f"{TARGET}"
            ) from None
    if not found:
        raise BadManifest(f"triplets {str(path)!r} hold no rows")
    columns = [list(column) for column in zip(*found)]
    return TripletTable(pa.table(columns, pa.schema([(name, pa.string()) for name in COLUMNS])))


def _triplet(manifest: Manifest, row: dict[str, Any]) -> tuple[str, str, str]:
    """Raises ValueError where a value is missing, or is no text."""
    text = row.get(TEXT)
    if not isinstance(text, str) or not text.strip():
        found = "" if text is None or isinstance(text, str) else f", but {shortened(text)}"
        raise ValueError(f"no {TEXT!r} value{found}")
    reference = manifest.item(row.get(IMAGE_COLUMN), {}, REFERENCE).uri
    target = manifest.item(row.get(TARGET), {}, TARGET).uri
    try:
        "".join((reference, text, target)).encode()
    except UnicodeError:
        raise ValueError("a value is not UTF-8 text") from None
    for uri in (reference, target):
        if is_url(uri):
            raise ValueError(f"{uri!r} is a URL; download the picture first")
    return reference, " ".join(text.split()), target
