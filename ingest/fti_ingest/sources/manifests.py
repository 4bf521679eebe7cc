"""Manifests: tables of images and payloads. ``image`` is a path relative to the table, or a URI."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fti_ingest.sources.listing import Listing
from fti_ingest.sources.source import Item
from fti_ingest.sources.tables.csv_rows import csv_rows
from fti_ingest.sources.tables.json_rows import json_rows
from fti_ingest.sources.tables.rows import IMAGE_COLUMN, EmbeddedImage, NumberedRows
from fti_ingest.sources.value_kinds import shortened
from fti_qdrant.errors import BadManifest, first_line
from fti_qdrant.gallery.points import Payload
from fti_qdrant.images.filesystems import DRIVE, is_remote, location
from fti_qdrant.images.parquet_images import embedded_uri

CSV = ".csv"
MANIFEST_SUFFIXES = (CSV, ".jsonl", ".ndjson", ".parquet")
INSIDE = ("zip://", "tar://", "parquet://")


def add_manifest(listing: Listing, place: str) -> None:
    """Adds a manifest's rows: ``image`` says where the image is; the rest is payload.

    Raises BadManifest: it cannot be read, lacks the column ``image``, or has a reserved column.
    """
    table = Manifest(place)
    listing.texts = table.path.suffix.lower() == CSV
    number = None
    for number, row in table.rows(listing.image_columns):
        line = f"{table.path}:{number}"
        if isinstance(row, str):
            listing.reject(line, row)
            continue
        image = row.pop(IMAGE_COLUMN, None)
        try:
            item = table.item(image, row)
        except ValueError as error:
            listing.reject(line, str(error))
            continue
        listing.add(item, f"{table.path.name}:{number}")
    if number is None:
        raise BadManifest(f"manifest {str(table.path)!r} holds no rows")


class Manifest:
    """A CSV, JSONL or Parquet file, here or at a URI, whose rows name images."""

    def __init__(self, place: str):
        self._place = place if is_remote(place) else str(Path(place).resolve())
        self.path: Path = location(place) if is_remote(place) else Path(place)  # type: ignore[assignment]
        self._root = str(self.path.parent) if is_remote(place) else str(self.path.parent.resolve())

    def rows(self, image_columns: Sequence[str] = (IMAGE_COLUMN,)) -> NumberedRows:
        """(line number, row) pairs; the image is under ``image``, from the first such column.

        Raises BadManifest where the file cannot be read, or has no such column.
        """
        try:
            yield from _reader(self.path.suffix.lower())(self.path, image_columns)
        except BadManifest:
            raise
        except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
            reason = first_line(error)
            raise BadManifest(f"manifest {str(self.path)!r} cannot be read: {reason}") from error

    def item(self, image: Any, payload: Payload, column: str = IMAGE_COLUMN) -> Item:
        """The image of a row. Raises ValueError where it names none.

        Args:
            column: its name, for the message.
        """
        if isinstance(image, EmbeddedImage):
            uri = embedded_uri(self._place, image.column, image.row)
            return Item(f"{self.path.name}/{image.row}", uri, payload)
        if isinstance(image, Mapping):  # as Hugging Face writes images that are files
            image = image.get("path")
        if not isinstance(image, str) or not image.strip():
            found = "" if image is None or isinstance(image, str) else f", but {shortened(image)}"
            raise ValueError(f"no {column!r} value{found}")
        name = image.strip()
        if name.startswith(INSIDE):
            raise ValueError(f"{name!r}: ingest the archive itself, as SOURCE")
        if is_remote(name):
            return Item(self._key(name), name, payload)
        if DRIVE.match(name) and os.name != "nt":
            raise ValueError(f"{name!r} is a path of a Windows drive; name it as it is found here")
        return (self._remote_item if is_remote(self._place) else self._local_item)(name, payload)

    def _local_item(self, name: str, payload: Payload) -> Item:
        """The key is relative to the manifest for files below it: ``./a.jpg`` is ``a.jpg``."""
        if "\\" in name and not Path(self._root, name).exists():
            name = name.replace("\\", "/")
        # of all that is done for a row, pathlib would take half the time
        file = os.path.normpath(os.path.join(self._root, name))  # noqa: PTH118
        key = file.removeprefix(self._root.rstrip(os.sep) + os.sep)
        return Item(key.replace(os.sep, "/"), file, payload)

    def _remote_item(self, name: str, payload: Payload) -> Item:
        """Paths without a scheme are on the manifest's filesystem."""
        name = posixpath.normpath(name.replace("\\", "/"))
        if name.startswith("/"):
            scheme, _, rest = self._root.partition("://")
            uri = f"{scheme}://{rest.split('/')[0]}{name}"
        else:
            uri = f"{self._root.rstrip('/')}/{name}"
        return Item(self._key(uri), uri, payload)

    def _key(self, uri: str) -> str:
        """Relative to a manifest at a URI, for what is below it."""
        below = is_remote(self._place)
        return uri.removeprefix(self._root.rstrip("/") + "/") if below else uri


def _reader(suffix: str) -> Any:
    """Imports on use: only Parquet needs Arrow's reader."""
    if suffix == ".parquet":
        from fti_ingest.sources.tables.parquet_rows import parquet_rows

        return parquet_rows
    return csv_rows if suffix == CSV else json_rows
