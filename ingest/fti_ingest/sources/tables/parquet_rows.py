"""Parquet files: rows with Python values. One value that cannot be read costs its row alone."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import parquet

from fti_ingest.sources.image_files import is_image
from fti_ingest.sources.tables.parquet_values import BadValue, column_values
from fti_ingest.sources.tables.rows import (
    IMAGE_COLUMN,
    EmbeddedImage,
    NumberedRows,
    Row,
    image_column,
)
from fti_qdrant.errors import first_line
from fti_qdrant.images.fetch import HEAD_BYTES

ROWS, IMAGES = 1024, 16
"""Rows read at once, and rows with the bytes of an image."""

INDEX = re.compile(r"__index_level_\d+__")
"""pandas writes its index as such a column."""

BYTES, PATH = "bytes", "path"
"""Hugging Face's struct for an image: its encoded bytes, and the name that it had."""


def parquet_rows(path: Path, image_columns: Sequence[str] = (IMAGE_COLUMN,)) -> NumberedRows:
    """(row number, row) pairs of a Parquet file, read in batches.

    A column of images, as Hugging Face writes them, is read where it names the images; others of
    the kind are left out. Raises BadManifest where no column names the images.
    """
    with path.open("rb") as opened, parquet.ParquetFile(opened) as file:
        schema = file.schema_arrow
        column = image_column(path, schema.names, image_columns)
        fields = [
            one.name
            for one in schema
            if one.name != column and not _holds_images(one.type) and not INDEX.fullmatch(one.name)
        ]
        images = _Images(file, column)
        number = 0
        for group in range(file.num_row_groups):
            count = file.metadata.row_group(group).num_rows
            try:
                for row in _group_rows(file, group, fields, images, number):
                    number += 1
                    yield number, row
                    count -= 1
            except (pa.ArrowException, OSError) as error:
                if isinstance(error, OSError) and error.errno is not None:
                    raise  # the disk's or the network's, and no damage of the file
                number += count
                bad = _unreadable_column(file, group, [column, *fields])
                yield (
                    number,
                    (f"{count:,} rows up to this one cannot be read{bad}: {first_line(error)}"),
                )


def _group_rows(
    file: parquet.ParquetFile, group: int, fields: list[str], images: _Images, before: int
) -> Iterator[Row]:
    """The rows of a row group, after so many others."""
    paths = images.of_group(group, before)
    for batch in _batches(file, group, fields, ROWS):
        names = batch.schema.names
        columns = [column_values(column) for column in batch.columns]
        for values in zip(*columns) if columns else [()] * batch.num_rows:
            yield _row(dict(zip(names, values)), next(paths))


def _unreadable_column(file: parquet.ParquetFile, group: int, columns: list[str]) -> str:
    """The first column that cannot be read, for a message."""
    for name in columns:
        try:
            for _ in _batches(file, group, [name], IMAGES):
                pass
        except (pa.ArrowException, OSError):
            return f" in column {name!r}"
    return ""


def _row(row: dict[str, Any], image: Any) -> Row:
    for name, value in ((IMAGE_COLUMN, image), *row.items()):
        if isinstance(value, BadValue):
            return f"column {name!r}: {value.reason}"
    return {**row, IMAGE_COLUMN: image}


def _batches(
    file: parquet.ParquetFile, group: int, columns: list[str], rows: int
) -> Iterator[pa.RecordBatch]:
    if columns:
        yield from file.iter_batches(batch_size=rows, row_groups=[group], columns=columns)
        return
    count = file.metadata.row_group(group).num_rows
    yield pa.RecordBatch.from_struct_array(pa.array([{}] * count, pa.struct([])))


class _Images:
    """The images of a file's rows: paths, or bytes that are in the file itself."""

    def __init__(self, file: parquet.ParquetFile, column: str):
        self._file = file
        self._column = column
        type = file.schema_arrow.field(column).type
        self._bytes = self._path = ""
        if _holds_images(type):
            self._bytes = f"{column}.{BYTES}"
            if type.get_field_index(PATH) >= 0:
                self._path = f"{column}.{PATH}"
        elif _is_binary(type) and self._begins_with_an_image():
            self._bytes = column
        else:
            self._path = column

    def of_group(self, group: int, before: int) -> Iterator[Any]:
        """For each row of a group: a path, an ``EmbeddedImage``, None, or a ``BadValue``."""
        rows = range(before + 1, before + 1 + self._file.metadata.row_group(group).num_rows)
        if not self._bytes:
            yield from self._values(group, self._path)
        elif self._all_filled(group):
            yield from (EmbeddedImage(self._column, row) for row in rows)
        else:
            for row, one in zip(rows, self._bytes_or_paths(group)):
                yield EmbeddedImage(self._column, row) if one is True else one

    def _values(self, group: int, column: str) -> Iterator[Any]:
        for batch in _batches(self._file, group, [column], ROWS):
            paths = batch.column(0)
            if _is_binary(paths.type):  # texts of a writer that does not call them so
                paths = paths.cast(pa.binary()).cast(pa.string(), safe=False)
            yield from column_values(paths)

    def _bytes_or_paths(self, group: int) -> Iterator[Any]:
        """True where there are bytes, else the path, or None."""
        wanted = [one for one in (self._bytes, self._path) if one]
        for batch in _batches(self._file, group, wanted, IMAGES):
            column = batch.column(0)
            if self._bytes == self._column:
                yield from (valid or None for valid in column.is_valid().to_pylist())
                continue
            filled = pc.struct_field(column, BYTES).is_valid().to_pylist()
            paths = column_values(pc.struct_field(column, PATH)) if self._path else filled
            yield from (valid or path or None for valid, path in zip(filled, paths))

    def _all_filled(self, group: int) -> bool:
        """Whether the file says that each row of a group has bytes; they are not read for that."""
        metadata = self._file.metadata.row_group(group)
        for number in range(metadata.num_columns):
            column = metadata.column(number)
            if column.path_in_schema == self._bytes:
                known = column.statistics
                return bool(known and known.has_null_count and not known.null_count)
        return False

    def _begins_with_an_image(self) -> bool:
        """Binary columns hold images, or, in files of old writers, paths."""
        for group in range(self._file.num_row_groups):
            for batch in _batches(self._file, group, [self._column], IMAGES):
                for one in batch.column(0):
                    if one.is_valid:
                        return is_image(one.as_py()[:HEAD_BYTES])
        return False


def _holds_images(type: pa.DataType) -> bool:
    """Whether a column is Hugging Face's struct for images."""
    if not pa.types.is_struct(type) or type.get_field_index(BYTES) < 0:
        return False
    names = {type.field(number).name for number in range(type.num_fields)}
    return names <= {BYTES, PATH} and _is_binary(type.field(BYTES).type)


def _is_binary(type: pa.DataType) -> bool:
    return bool(
        pa.types.is_binary(type)
        or pa.types.is_large_binary(type)
        or pa.types.is_fixed_size_binary(type)
    )
