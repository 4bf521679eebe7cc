"""Columns of a batch, which is an Arrow table: read as arrays, replaced, chosen by status."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def spread(seconds: float, rows: int) -> pa.Array:
    """Time spent on a batch, in equal shares by row: batches may be cut and joined later."""
    return pa.array(np.full(rows, seconds / max(1, rows), dtype=np.float32))


def texts(values: Iterable[str]) -> pa.Array:
    """A column of strings, of that type also where there are none."""
    return pa.array(values, pa.string())


def rows_with(batch: pa.Table, status: str) -> pa.Table:
    """The rows of this status."""
    return batch.filter(pc.equal(batch["status"], status))


def matrix(column: pa.ChunkedArray) -> np.ndarray:
    """A column of equally long lists -> ``[rows, length]``."""
    flat = column.combine_chunks().flatten()
    return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(len(column), -1)


def vectors(values: np.ndarray) -> pa.Array:
    """``[rows, length]`` -> a column of equally long lists."""
    return pa.FixedSizeListArray.from_arrays(pa.array(values.ravel()), values.shape[1])


def replaced(table: pa.Table, **columns: pa.Array) -> pa.Table:
    """The table with these columns in place of its own, or beside them."""
    for name, values in columns.items():
        if name in table.column_names:
            table = table.set_column(table.column_names.index(name), name, values)
        else:
            table = table.append_column(name, values)
    return table
