"""The bytes of images that are in Parquet files, by row."""

from __future__ import annotations

from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from threading import Lock
from urllib.parse import quote, unquote

import pyarrow as pa

from fti_qdrant.errors import BadImage
from fti_qdrant.images.fetch import PARQUET
from fti_qdrant.images.filesystems import CHAIN, filesystem

OPEN_FILES = 8
GROUPS = 2
"""Row groups whose images stay in memory: a batch may lie in two of them."""

_lock = Lock()
"""Rows of one group are asked for by several threads, and should be read once."""


def embedded_uri(place: str, column: str, row: int) -> str:
    """A URI of our own: ``parquet://COLUMN/ROW::FILE``, the rows counted from 1."""
    return f"{PARQUET}{quote(column, safe='')}/{row}{CHAIN}{place}"


def read_embedded(uri: str, version: tuple[int, ...], most: int) -> bytes:
    """The first ``most`` bytes of an image. Raises BadImage, and what the filesystem raises.

    Args:
        version: changes when the file does.
    """
    name, _, place = uri.removeprefix(PARQUET).partition(CHAIN)
    column, _, row = name.partition("/")
    with _lock:
        starts = _row_group_starts(place, version)
        group = bisect_right(starts, int(row) - 1) - 1
        images = _images(place, version, unquote(column), group) if group < len(starts) - 1 else ()
        at = int(row) - 1 - starts[group]
        data = images[at].as_py() if at < len(images) else None
    if data is None:
        raise BadImage(f"{uri!r}: no such image in the file")
    return bytes(data[:most])


@lru_cache(maxsize=OPEN_FILES)
def _row_group_starts(place: str, version: tuple[int, ...]) -> list[int]:
    """The first row of each row group, and the number of all rows."""
    metadata = _opened(place, version).metadata
    counts = (metadata.row_group(number).num_rows for number in range(metadata.num_row_groups))
    return list(accumulate(counts, initial=0))


@lru_cache(maxsize=GROUPS)
def _images(place: str, version: tuple[int, ...], column: str, group: int) -> pa.Array:
    """The encoded images of a row group: all of them, as Parquet is read by pages."""
    file = _opened(place, version)
    nested = pa.types.is_struct(file.schema_arrow.field(column).type)
    table = file.read_row_group(group, columns=[f"{column}.bytes" if nested else column])
    found = table.column(0).combine_chunks()
    return pa.compute.struct_field(found, "bytes") if nested else found


@lru_cache(maxsize=OPEN_FILES)
def _opened(place: str, version: tuple[int, ...]) -> pa.parquet.ParquetFile:
    from pyarrow import parquet

    fs, path = filesystem(place)
    return parquet.ParquetFile(fs.open(path, "rb"))
