"""What to ingest: a folder, a glob, or a manifest with payload columns -> a ``Source``."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path

from fti_ingest.listing import Item, Listing, Source
from fti_ingest.manifests import MANIFEST_SUFFIXES, read_manifest
from fti_qdrant.errors import BadManifest

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".jp2", ".avif", ".webp", ".tif", ".tiff"),
    *(".png", ".gif", ".bmp", ".ico", ".ppm", ".pgm", ".pbm"),
)


def read_source(source: str) -> Source:
    """Lists a folder (recursively), a glob pattern, or a CSV, JSONL or Parquet manifest.

    A manifest has a column ``image`` with paths relative to itself, or URLs; its other columns
    become the payload. Duplicate images are rejected after the first.

    Raises BadManifest: nothing there, no images, no ``image`` column, or not readable.
    """
    path = Path(source)
    if path.is_dir():
        listed = _read_folder(path)
    elif path.is_file() and path.suffix.lower() in MANIFEST_SUFFIXES:
        listed = read_manifest(path)
    elif path.is_file():
        raise BadManifest(
            f"{source!r} is neither a folder nor a manifest ({', '.join(MANIFEST_SUFFIXES)})"
        )
    elif glob.has_magic(source):
        found = sorted(set(glob.glob(source, recursive=True)))
        listing = Listing()
        _add_files(listing, _fixed_part(source), (Path(name) for name in found))
        listed = listing.source()
    else:
        raise BadManifest(f"{source!r}: no such folder, manifest, or glob pattern")
    if not len(listed) and not listed.rejects:
        raise BadManifest(f"{source!r} holds no images ({', '.join(IMAGE_SUFFIXES)})")
    return listed


def _read_folder(root: Path) -> Source:
    listing = Listing()

    def unreadable(error: OSError) -> None:
        listing.reject(str(error.filename), f"the folder cannot be read: {error.strerror}")

    for folder, below, names in os.walk(root, onerror=unreadable):
        below.sort()
        images = sorted(name for name in names if name.lower().endswith(IMAGE_SUFFIXES))
        _add_files(listing, root, (Path(folder, name) for name in images))
    return listing.source()


def _add_files(listing: Listing, root: Path, files: Iterable[Path]) -> None:
    """Adds files by their path below ``root``; a link keeps its own name, not its target's."""
    there = root.resolve()
    for file in files:
        if not file.is_dir():
            below = file.relative_to(root)
            listing.add(Item(below.as_posix(), str(there / below)))


def _fixed_part(pattern: str) -> Path:
    """The folders of a glob pattern before its first wildcard."""
    parts = Path(pattern).parts[:-1]
    fixed = []
    for part in parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)
