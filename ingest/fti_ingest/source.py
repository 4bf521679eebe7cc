"""What to ingest: a folder, a glob, or a manifest with payload columns -> a list of items."""

from __future__ import annotations

import glob
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery.points import OURS, IndexType, Payload, point_id

IMAGE_COLUMN = "image"
MANIFEST_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")
IMAGE_SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".gif",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".ppm",
        ".pgm",
        ".pbm",
        ".avif",
        ".ico",
        ".jp2",
    ]
)


@dataclass(frozen=True)
class Item:
    """One image to ingest.

    Attributes:
        key: path or URI relative to the source; its uuid5 is the point id.
        uri: where the bytes are: an absolute path, or a URL.
    """

    key: str
    uri: str
    payload: Payload = field(default_factory=dict)

    @property
    def id(self) -> str:
        return point_id(self.key)


@dataclass(frozen=True)
class Reject:
    """Something that could not be ingested, and why."""

    uri: str
    reason: str


@dataclass(frozen=True)
class Source:
    """The items of a source, and the rows of its manifest that name none."""

    items: list[Item]
    rejects: list[Reject]

    def index_types(self) -> dict[str, IndexType]:
        """Payload fields whose values are all of one type that Qdrant can index."""
        kinds: dict[str, set[IndexType | None]] = {}
        for item in self.items:
            for name, value in item.payload.items():
                for one in value if isinstance(value, list) else [value]:
                    kinds.setdefault(name, set()).add(_index_type(one))
        found: dict[str, IndexType] = {}
        for name, seen in kinds.items():
            only = "float" if seen == {"integer", "float"} else next(iter(seen))
            if only is not None and (len(seen) == 1 or only == "float"):
                found[name] = only
        return found


def read_source(source: str) -> Source:
    """Lists a folder (recursively), a glob pattern, or a CSV, JSONL or Parquet manifest.

    A manifest has a column ``image`` with paths relative to itself, or URLs; its other columns
    become the payload. Duplicate images are rejected after the first.

    Raises BadManifest: nothing there, no images, no ``image`` column, or not readable.
    """
    path = Path(source)
    if path.is_dir():
        files = (p for p in sorted(path.rglob("*")) if p.suffix.lower() in IMAGE_SUFFIXES)
        listed = Source([_item_of_file(file, path) for file in files if file.is_file()], [])
    elif path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES:
        listed = _read_manifest(path)
    elif path.is_file():
        raise BadManifest(
            f"{source!r} is neither a folder nor a manifest ({', '.join(MANIFEST_SUFFIXES)})"
        )
    elif any(sign in source for sign in "*?["):
        files = (Path(name) for name in sorted(glob.glob(source, recursive=True)))
        root = Path(source.split("*")[0].split("?")[0].split("[")[0])
        root = root if root.is_dir() else root.parent
        listed = Source([_item_of_file(file, root) for file in files if file.is_file()], [])
    else:
        raise BadManifest(f"{source!r}: no such folder, manifest, or glob pattern")
    if not listed.items and not listed.rejects:
        raise BadManifest(f"{source!r} holds no images ({', '.join(sorted(IMAGE_SUFFIXES))})")
    return listed


def _item_of_file(file: Path, root: Path) -> Item:
    return Item(file.relative_to(root).as_posix(), str(file.resolve()))


def _read_manifest(path: Path) -> Source:
    items: dict[str, Item] = {}
    rejects: list[Reject] = []
    for where, row in _rows(path):
        image = row.get(IMAGE_COLUMN) if isinstance(row, dict) else None
        if not isinstance(row, dict):
            rejects.append(Reject(where, str(row)))
        elif not isinstance(image, str) or not image.strip():
            rejects.append(Reject(where, f"no {IMAGE_COLUMN!r} value"))
        elif OURS in row:
            raise BadManifest(f"{where}: the column {OURS!r} is reserved; rename it")
        elif image in items:
            rejects.append(
                Reject(image, f"{where}: the image is listed twice; the first one counts")
            )
        else:
            payload = {
                name: plain
                for name, value in row.items()
                if name != IMAGE_COLUMN and (plain := _plain(value)) is not None
            }
            items[image] = Item(image, _locate(image, path.parent), payload)
    return Source(list(items.values()), rejects)


def _rows(path: Path) -> Iterator[tuple[str, dict[str, Any] | str]]:
    """(where, row) pairs; a row that is a text says what is wrong with it."""
    try:
        if path.suffix.lower() in (".jsonl", ".ndjson"):
            with path.open(encoding="utf-8") as file:
                yield from _json_rows(path, file)
            return
        table = _table(path)
    except (OSError, ValueError) as error:  # pyarrow's errors are ValueErrors
        reason = str(error).splitlines()[0]
        raise BadManifest(f"manifest {str(path)!r} cannot be read: {reason}") from error
    if IMAGE_COLUMN not in table.column_names:
        raise BadManifest(
            f"manifest {str(path)!r} has no column {IMAGE_COLUMN!r}; its columns are "
            f"{', '.join(table.column_names)}"
        )
    for number, row in enumerate(table.to_pylist()):
        yield f"{path}:{number + 1}", row


def _json_rows(path: Path, lines: Iterable[str]) -> Iterator[tuple[str, dict[str, Any] | str]]:
    named = False
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            row = f"not JSON: {error}"
        if not isinstance(row, (dict, str)):
            row = "not a JSON object"
        named = named or (isinstance(row, dict) and IMAGE_COLUMN in row)
        yield f"{path}:{number + 1}", row
    if not named:
        raise BadManifest(f"manifest {str(path)!r}: no line is an object with {IMAGE_COLUMN!r}")


def _table(path: Path) -> Any:
    if path.suffix.lower() == ".csv":
        from pyarrow import csv

        return csv.read_csv(path, convert_options=csv.ConvertOptions(strings_can_be_null=True))
    from pyarrow import parquet

    return parquet.read_table(path)


def _locate(image: str, root: Path) -> str:
    if image.startswith(("http://", "https://")):
        return image
    return str((root / image).resolve())


def _plain(value: Any) -> Any:
    """A value as JSON has it; None for what is missing."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, dict):
        return {str(name): _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    return str(value)


def _index_type(value: Any) -> IndexType | None:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "float"
    return "keyword" if isinstance(value, str) else None
