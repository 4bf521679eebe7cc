"""A user's own captions, from a CSV, JSONL or Parquet file with columns uri and caption."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
from pyarrow import csv, json, parquet

from fti_ingest.sources.listing import Reject
from fti_qdrant.errors import BadManifest, first_line
from fti_qdrant.images.read import is_url

COLUMNS = ("uri", "caption")
TEXTS = pa.schema([(name, pa.string()) for name in COLUMNS])


@dataclass(frozen=True)
class UserCaptions:
    """The contents of a file.

    Attributes:
        table: a row for each image: uri (absolute, or a URL) and caption.
        rejects: rows without a URI or caption, and images that are listed twice.
    """

    table: pa.Table
    rejects: list[Reject]


def read_user_captions(path: Path) -> UserCaptions:
    """Reads a file; relative URIs are relative to its folder.

    Raises BadManifest: missing, of another type, unreadable, or without the columns or rows.
    """
    readers = {".csv": _csv, ".jsonl": _json, ".ndjson": _json, ".parquet": parquet.read_table}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        kinds = ", ".join(readers)
        raise BadManifest(f"captions file {str(path)!r} is none of {kinds}")
    try:
        found = reader(path)
        missing = [name for name in COLUMNS if name not in found.column_names]
        if missing:
            raise BadManifest(
                f"captions file {str(path)!r} has no column {missing[0]!r}; its columns are "
                f"{', '.join(found.column_names) or 'none'}"
            )
        rows = found.select(COLUMNS).cast(TEXTS).to_pylist()
    except (OSError, pa.ArrowException) as error:
        reason = first_line(error)
        raise BadManifest(f"captions file {str(path)!r} cannot be read: {reason}") from error
    if not rows:
        raise BadManifest(f"captions file {str(path)!r} holds no rows")
    return _listed(path, rows)


def _listed(path: Path, rows: list[dict[str, str | None]]) -> UserCaptions:
    root = path.parent.resolve()
    captions: dict[str, str] = {}
    rejects = []
    for number, row in enumerate(rows, 1):
        uri, caption = ((row[name] or "").strip() for name in COLUMNS)
        if not uri or not caption:
            rejects.append(Reject(f"{path}, row {number}", f"no {'caption' if uri else 'uri'}"))
            continue
        path_or_url = uri if is_url(uri) else os.path.normpath(root / uri)
        if path_or_url in captions:
            reason = "the image is listed twice; the first one counts"
            rejects.append(Reject(f"{path}, row {number}", reason))
            continue
        captions[path_or_url] = " ".join(caption.split())
    columns = [list(captions), list(captions.values())]
    return UserCaptions(pa.table(columns, schema=TEXTS), rejects)


def _csv(path: Path) -> pa.Table:
    return csv.read_csv(
        path,
        parse_options=csv.ParseOptions(newlines_in_values=True),
        convert_options=csv.ConvertOptions(column_types=TEXTS),
    )


def _json(path: Path) -> pa.Table:
    table = json.read_json(path, parse_options=json.ParseOptions(explicit_schema=TEXTS))
    named = [name for name in table.column_names if table[name].null_count < len(table)]
    return table.select(named)  # a column of the schema that no line has is all null
