"""Composed queries with their answers, in a user's file: reference, text, target."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from fti_ingest.sources.manifests import MANIFEST_SUFFIXES, Manifest
from fti_ingest.sources.tables.rows import IMAGE_COLUMN
from fti_ingest.sources.value_kinds import shortened
from fti_qdrant.errors import BadManifest

REFERENCE, TEXT, TARGET = "reference", "text", "target"
COLUMNS = (REFERENCE, TEXT, TARGET)


@dataclass(frozen=True)
class TripletTable:
    """What a file holds.

    Attributes:
        table: columns reference and target (absolute paths, or URLs) and text.
    """

    table: pa.Table

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """sha256 of the rows, in order."""
        return hashlib.sha256(json.dumps(self.table.to_pydict()).encode()).hexdigest()

    @property
    def pictures(self) -> pa.ChunkedArray:
        """``[2N]``: the references of all rows, and then their targets."""
        return pa.chunked_array([*self.table[REFERENCE].chunks, *self.table[TARGET].chunks])

    def texts(self, rows: list[int]) -> list[str]:
        """The modification texts of these rows."""
        texts: list[str] = self.table[TEXT].take(pa.array(rows, pa.int64())).to_pylist()
        return texts


def read_triplets(path: Path) -> TripletTable:
    """Reads a CSV, JSONL or Parquet file; relative paths are relative to its folder.

    Raises BadManifest: missing, of another type, unreadable, without rows, or with a row that
    lacks a picture or the text.
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
            # no row is left out in silence: who wrote the file can mend it before hours of training
            raise BadManifest(f"triplets {str(path)!r}, line {number}: {error}") from None
    if not found:
        raise BadManifest(f"triplets {str(path)!r} hold no rows")
    columns = [list(column) for column in zip(*found)]
    return TripletTable(pa.table(columns, pa.schema([(name, pa.string()) for name in COLUMNS])))


def _triplet(manifest: Manifest, row: dict[str, Any]) -> tuple[str, str, str]:
    """Raises ValueError where a value is missing, or is no text."""
    text = row.get(TEXT)
    if not isinstance(text, str) or not text.strip():
        found = "" if text in (None, "") or isinstance(text, str) else f", but {shortened(text)}"
        raise ValueError(f"no {TEXT!r} value{found}")
    reference = manifest.item(row.get(IMAGE_COLUMN), {}, REFERENCE).uri
    target = manifest.item(row.get(TARGET), {}, TARGET).uri
    return reference, " ".join(text.split()), target
