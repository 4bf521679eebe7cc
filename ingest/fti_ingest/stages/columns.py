"""Columns of a batch, which is an Arrow table: read as arrays, replaced, chosen by status."""

from __future__ import annotations

import numpy as np
import pyarrow as pa


def spread(seconds: float, rows: int) -> pa.Array:
    """What a stage spent on a batch, a row's share in each row: they may be batched anew."""
    return pa.array(np.full(rows, seconds / max(1, rows), dtype=np.float32))


def rows_with(batch: pa.Table, reason: str) -> pa.Table:
    """The rows of this ``reason``; an empty one stands for those that are to be stored."""
    return batch.filter(pa.compute.equal(batch["reason"], reason))


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of equally long lists -> ``[rows, length]``."""
    flat = column.combine_chunks().flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def replaced(table: pa.Table, name: str, values: pa.Array) -> pa.Table:
    return table.set_column(table.column_names.index(name), name, values)
