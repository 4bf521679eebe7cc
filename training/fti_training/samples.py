"""Pictures with split captions, as ``fti-train captions`` writes them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fti_qdrant.errors import BadManifest, first_line
from fti_training.captions.table import CAPTIONERS_KEY, SPLITTER_KEY
from fti_training.split_caption import SplitCaption

COLUMNS = ("uri", "subject", "attribute")


@dataclass(frozen=True)
class Samples:
    """What can be trained on.

    Attributes:
        table: columns uri, subject and attribute, none of them empty; its metadata names what made
            the captions.
        without_split: number of rows that were left out, as their caption has no split.
    """

    table: pa.Table
    without_split: int = 0

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """sha256 of the URIs, subjects and attributes, in order."""
        return rows_digest(self.table)

    @property
    def captioners(self) -> str | None:
        """The models and files that the captions came from, if the table says so."""
        names = self._fact(CAPTIONERS_KEY)
        return ", ".join(json.loads(names)) if names else None

    @property
    def splitter(self) -> str | None:
        """What split the captions, if the table says so."""
        return self._fact(SPLITTER_KEY)

    def _fact(self, key: str) -> str | None:
        value = (self.table.schema.metadata or {}).get(key.encode())
        return value.decode() if value else None

    def uris(self, rows: Iterable[int]) -> pa.Array:
        return self.table["uri"].take(pa.array(rows)).combine_chunks()

    def captions(self, rows: Iterable[int]) -> list[SplitCaption]:
        chosen = self.table.select(COLUMNS[1:]).take(pa.array(rows))
        return [SplitCaption(*pair) for pair in zip(*(c.to_pylist() for c in chosen.columns))]


def read_samples(path: Path) -> Samples:
    """Reads ``captions.parquet``.

    Raises BadManifest: no such file, not Parquet, other columns, or no caption with a split.
    """
    try:
        table = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise BadManifest(
            f"captions {str(path)!r} cannot be read: {first_line(error)}; `fti-train captions` "
            "makes them"
        ) from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise BadManifest(
            f"captions {str(path)!r} have no column {missing[0]!r}; `fti-train captions` makes them"
        )
    return samples_of(table, str(path))


def samples_of(table: pa.Table, name: str) -> Samples:
    """The rows whose caption has a split. Raises BadManifest where there is none."""
    texts = pa.schema([(column, pa.string()) for column in COLUMNS])
    chosen = table.select(COLUMNS).cast(texts.with_metadata(table.schema.metadata))
    complete = pa.compute.and_kleene(filled(chosen["subject"]), filled(chosen["attribute"]))
    kept = chosen.filter(complete)
    if not len(kept):
        raise BadManifest(
            f"captions {name!r}: none of {len(table)} has a subject and attributes to train on"
        )
    return Samples(kept, len(table) - len(kept))


def rows_digest(table: pa.Table) -> str:
    """sha256 of the rows of a table, in order."""
    return hashlib.sha256(json.dumps(table.to_pydict()).encode()).hexdigest()


def filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Mask of the texts that are neither null nor blank."""
    trimmed = pa.compute.utf8_trim_whitespace(pa.compute.fill_null(column, ""))
    return pa.compute.not_equal(trimmed, "")
