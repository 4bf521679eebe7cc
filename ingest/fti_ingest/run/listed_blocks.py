"""A listing handed out in blocks, each row with the revision that the gallery holds of it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from fti_ingest.sources.source import mapped
from fti_ingest.stages.revisions import revisions_of

MIN_ROWS, MAX_ROWS = 32, 1024
BLOCKS = 2000
"""Blocks of a source of medium size: on a cluster, each is a task for Ray's scheduler."""


@dataclass(frozen=True)
class ListedBlocks:
    """Blocks of a listing's file. Both files are memory-mapped, so that memory stays flat.

    Attributes:
        items: file of the listing, of ``ITEM_SCHEMA``.
        revisions: file of ``stored_revisions``.
    """

    items: Path
    revisions: Path
    rows: int

    def __len__(self) -> int:
        return math.ceil(self._table.num_rows / self.rows)

    def block(self, number: int) -> pa.Table:
        table = self._table.slice(number * self.rows, self.rows)
        found = revisions_of(self._pairs, table["id"].to_pylist())
        return table.append_column("stored_revision", pa.array(found, pa.string()))

    @cached_property
    def _table(self) -> pa.Table:
        return mapped(self.items)

    @cached_property
    def _pairs(self) -> np.ndarray:
        pairs: np.ndarray = np.load(self.revisions, mmap_mode="r")
        return pairs

    def __reduce__(self) -> Any:  # what is mapped stays here
        return ListedBlocks, (self.items, self.revisions, self.rows)


def block_rows(images: int) -> int:
    """Rows of a block, so that there are neither too many blocks nor too large ones."""
    return min(MAX_ROWS, max(MIN_ROWS, math.ceil(images / BLOCKS)))
