"""A user's own captions: a manifest with a column ``caption``, read as ``fti-ingest`` does."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from fti_ingest.sources.manifests import MANIFEST_SUFFIXES, Manifest
from fti_ingest.sources.source import Reject
from fti_ingest.sources.tables.rows import IMAGE_COLUMN
from fti_ingest.sources.value_kinds import shortened
from fti_qdrant.errors import BadManifest

IMAGE_COLUMNS = (IMAGE_COLUMN, "uri")
"""Names of the column with the images; the second is that of ``captions.parquet``."""

CAPTION_COLUMN = "caption"
TEXTS = pa.schema([(name, pa.string()) for name in ("uri", CAPTION_COLUMN)])


@dataclass(frozen=True)
class UserCaptions:
    """The contents of a file.

    Attributes:
        table: a row for each image: uri (absolute, or a URL) and caption.
        rejects: rows that cannot be used, and images that are listed twice.
    """

    table: pa.Table
    rejects: list[Reject]


def read_user_captions(path: Path) -> UserCaptions:
    """Reads a CSV, JSONL or Parquet file; relative paths are relative to its folder.

    The images are in the column ``image`` or ``uri``. A bad row is rejected alone.

    Raises BadManifest: missing, of another type, unreadable, or without the columns or rows.
    """
    if path.suffix.lower() not in MANIFEST_SUFFIXES:
        kinds = ", ".join(MANIFEST_SUFFIXES)
        raise BadManifest(f"captions file {str(path)!r} is none of {kinds}")
    manifest = Manifest(str(path))
    captions: dict[str, str] = {}
    rejects = []
    names: set[str] = set()
    for number, row in manifest.rows(IMAGE_COLUMNS):
        try:
            if isinstance(row, str):
                raise ValueError(row)
            names |= row.keys()
            uri, caption = _image_and_caption(manifest, row)
            if uri in captions:
                raise ValueError("the image is listed twice; the first one counts")
            captions[uri] = caption
        except ValueError as error:
            rejects.append(Reject(f"{path}:{number}", str(error)))
    _check(path, names, rejects)
    return UserCaptions(pa.table([list(captions), list(captions.values())], TEXTS), rejects)


def _image_and_caption(manifest: Manifest, row: dict[str, Any]) -> tuple[str, str]:
    """Raises ValueError where one of the two is missing, or no text."""
    uri = manifest.item(row.get(IMAGE_COLUMN), {}).uri
    caption = row.get(CAPTION_COLUMN)
    if caption is None or caption == "":
        raise ValueError("no caption")
    if not isinstance(caption, str):
        raise ValueError(f"the caption is no text, but {shortened(caption)}")
    words = caption.split()
    if not words:
        raise ValueError("no caption")
    try:
        "".join((uri, *words)).encode()
    except UnicodeError:
        raise ValueError("the image's name or the caption is not UTF-8 text") from None
    return uri, " ".join(words)


def _check(path: Path, names: set[str], rejects: list[Reject]) -> None:
    """Raises BadManifest where no row has a caption."""
    if CAPTION_COLUMN in names:
        return
    if names:
        raise BadManifest(
            f"captions file {str(path)!r} has no column {CAPTION_COLUMN!r}; its columns are "
            f"{', '.join(sorted(names))}"
        )
    if not rejects:
        raise BadManifest(f"captions file {str(path)!r} holds no rows")
