"""What to ingest: a folder, a glob, archives, a manifest with payload columns -> a ``Source``."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from fti_ingest.archives import add_archive, is_archive
from fti_ingest.listing import IMAGE_SUFFIXES, Item, Listing, Source, is_image_name
from fti_ingest.manifests import MANIFEST_SUFFIXES, add_manifest
from fti_ingest.storage import filesystem, is_remote, location, readable
from fti_qdrant.errors import BadManifest

KINDS = f"a folder, a glob, a manifest ({', '.join(MANIFEST_SUFFIXES)}), .tar or .zip"


def read_source(source: str) -> Source:
    """Lists a folder (recursively), a glob pattern, a manifest, or tar and zip archives.

    Each may be on this machine or at a URI whose filesystem fsspec knows, ``s3://bucket/photos``.
    A manifest (CSV, JSONL, Parquet) has a column ``image`` with paths relative to itself, or
    URIs; its other columns become the payload. Duplicate images are rejected after the first.

    Raises BadManifest: nothing there, no images, no ``image`` column, or not readable.
    """
    listing = Listing()
    if is_remote(source):
        with readable(source):
            _list_remote(listing, source)
    else:
        _list_local(listing, source)
    listed = listing.source()
    if not len(listed) and not listed.reject_count:
        raise BadManifest(
            f"{source!r} holds no images ({', '.join(IMAGE_SUFFIXES)}); archives are listed by a "
            "glob such as 'shards/*.tar'"
        )
    return listed


def _list_local(listing: Listing, source: str) -> None:
    path = Path(source)
    if path.is_dir():
        _add_folder(listing, path)
    elif path.is_file():
        _add_file(listing, source, path.name)
    elif glob.has_magic(source):
        found = sorted(set(glob.glob(source, recursive=True)))
        _add_files(listing, Path(_fixed_part(source)), (Path(name) for name in found))
    else:
        raise BadManifest(f"{source!r}: no such file or folder; name {KINDS}")


def _list_remote(listing: Listing, source: str) -> None:
    if glob.has_magic(source):
        fs, pattern = filesystem(source)
        root = _fixed_part(pattern)
        for name in sorted(fs.glob(pattern)):
            _add(listing, fs.unstrip_protocol(name), os.path.relpath(name, root))
        return
    path = location(source)
    if path.is_file():
        _add_file(listing, source, PurePosixPath(urlsplit(source).path).name)
    elif path.is_dir():
        _add_remote_folder(listing, source)
    else:
        raise BadManifest(f"{source!r}: no such file or folder; name {KINDS}")


def _add_file(listing: Listing, place: str, name: str) -> None:
    """One file that stands for many images."""
    if name.lower().endswith(MANIFEST_SUFFIXES):
        add_manifest(listing, place)
    elif is_archive(name):
        add_archive(listing, place if is_remote(place) else str(Path(place).resolve()), name)
    else:
        raise BadManifest(f"{place!r} is none of: {KINDS}")


def _add_folder(listing: Listing, root: Path) -> None:
    def unreadable(error: OSError) -> None:
        listing.reject(str(error.filename), f"the folder cannot be read: {error.strerror}")

    for folder, below, names in os.walk(root, onerror=unreadable):
        below.sort()
        images = filter(is_image_name, sorted(names))
        _add_files(listing, root, (Path(folder, name) for name in images))


def _add_files(listing: Listing, root: Path, files: Iterable[Path]) -> None:
    """Adds files by their path below ``root``; a link keeps its own name, not its target's."""
    there = root.resolve()
    for file in files:
        if file.is_dir():
            continue
        below = file.relative_to(root)
        _add(listing, str(there / below), below.as_posix())


def _add_remote_folder(listing: Listing, source: str) -> None:
    """Folder by folder: of a bucket with many there is never more than one in memory."""
    fs, root = filesystem(source)
    fs.use_listings_cache = False

    def unreadable(error: OSError) -> None:
        listing.reject(source, f"a folder cannot be read: {error}")

    for folder, below, names in fs.walk(root, on_error=unreadable):
        below.sort()
        for name in sorted(names):
            path = f"{folder.rstrip('/')}/{name}"
            if is_image_name(name):
                _add(listing, fs.unstrip_protocol(path), os.path.relpath(path, root))


def _add(listing: Listing, place: str, key: str) -> None:
    """A file that is an image, or an archive of them."""
    if is_archive(place):
        add_archive(listing, place, key)
    else:
        listing.add(Item(key, place))


def _fixed_part(pattern: str) -> str:
    """The folders of a glob pattern before its first wildcard."""
    fixed = []
    for part in PurePosixPath(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return str(PurePosixPath(*fixed))
