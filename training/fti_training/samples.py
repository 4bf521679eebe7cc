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

from fti_qdrant.errors import BadManifest
from fti_training.captions.table import CAPTIONERS_KEY, SPLITTER_KEY
from fti_training.split_caption import SplitCaption

COLUMNS = ("uri", "subject", "attribute")


@dataclass(frozen=True)
class Samples:
    """What can be trained on.

    Attributes:
        table: columns uri, subject and attribute, none of them empty; its metadata tells what made
            the captions.
        without_split: rows that were left out, as their caption has no split.
    """

    table: pa.Table
    without_split: int = 0

    def __len__(self) -> int:
        return int(self.table.num_rows)

    @cached_property
    def digest(self) -> str:
        """sha256 of uris, subjects and attributes, in order."""
        return hashlib.sha256(json.dumps(self.table.to_pydict()).encode()).hexdigest()

    @property
    def captioners(self) -> str | None:
        """The models and files that the captions came from, if the table says so."""
        told = self._fact(CAPTIONERS_KEY)
        return ", ".join(json.loads(told)) if told else None

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
        reason = str(error).splitlines()[0]
        raise BadManifest(
            f"captions {str(path)!r} cannot be read: {reason}; `fti-train captions` makes them"
        ) from error
    missing = [name for name in COLUMNS if name not in table.column_names]
    if missing:
        raise BadManifest(
            f"captions {str(path)!r} have no column {missing[0]!r}; `fti-train captions` makes them"
        )
    return samples_of(table, str(path))


def samples_of(table: pa.Table, name: str) -> Samples:
    """The rows whose caption is split. Raises BadManifest where none is."""
    texts = pa.schema([(column, pa.string()) for column in COLUMNS])
    chosen = table.select(COLUMNS).cast(texts.with_metadata(table.schema.metadata))
    whole = pa.compute.and_kleene(filled(chosen["subject"]), filled(chosen["attribute"]))
    kept = chosen.filter(whole)
    if not len(kept):
        raise BadManifest(
            f"captions {name!r}: none of {len(table)} has a subject and attributes to train on"
        )
    return Samples(kept, len(table) - len(kept))


def filled(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Where a text is there and not blank."""
    trimmed = pa.compute.utf8_trim_whitespace(pa.compute.fill_null(column, ""))
    return pa.compute.not_equal(trimmed, "")
