"""Tables cut and joined to the size that a stage wants."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from fti_ingest.engine.protocol import Tables

FIRST_ROWS = 8
"""The first batch is this small and the next ones double, so that progress shows at once."""


def cut(tables: Iterator[pa.Table], rows: int | None) -> Tables:
    """Each table in pieces of at most ``rows``; tables without rows are left out."""
    for table in tables:
        size = rows or max(1, table.num_rows)
        for start in range(0, table.num_rows, size):
            yield table.slice(start, size)


def rebatched(tables: Iterator[pa.Table], rows: int | None, first: int | None = None) -> Tables:
    """All rows in batches of exactly ``rows`` (None: as they come); the last may be smaller.

    Args:
        first: rows of the first batch; the next ones double until they have ``rows``.
    """
    if rows is None:
        yield from cut(tables, None)
        return
    wanted = min(rows, first or rows)
    waiting: list[pa.Table] = []
    count = 0
    for table in cut(tables, None):
        waiting.append(table)
        count += table.num_rows
        while count >= wanted:
            joined = pa.concat_tables(waiting)
            yield joined.slice(0, wanted)
            waiting, count = [joined.slice(wanted)], count - wanted
            wanted = min(rows, 2 * wanted)
    if count:
        yield pa.concat_tables(waiting)
