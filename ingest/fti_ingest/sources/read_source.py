"""Lists what to ingest: a folder, a glob, archives, or a manifest with payload columns."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from fti_ingest.sources.archives import add_archive, is_archive
from fti_ingest.sources.folders import (
    EVERYTHING,
    Pattern,
    Report,
    local_files,
    remote_files,
    split_pattern,
)
from fti_ingest.sources.image_files import IMAGE_SUFFIXES, counted
from fti_ingest.sources.listing import Listing
from fti_ingest.sources.manifests import MANIFEST_SUFFIXES, add_manifest
from fti_ingest.sources.other_files import add_folder_files, add_matched_files
from fti_ingest.sources.point_keys import PointKeys
from fti_ingest.sources.readable import image_problem
from fti_ingest.sources.source import Source
from fti_ingest.sources.tables.rows import IMAGE_COLUMN
from fti_ingest.sources.value_kinds import ColumnType
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import CollectionLayout
from fti_qdrant.gallery.layout import OUR_LAYOUT
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits
from fti_qdrant.images.fetch import read_heads
from fti_qdrant.images.filesystems import filesystem, is_remote, local_path, location, readable
from fti_qdrant.images.read import is_url

KINDS = f"a folder, a glob, a manifest ({', '.join(MANIFEST_SUFFIXES)}), .tar or .zip"


def read_source(
    source: str,
    types: Mapping[str, ColumnType] | None = None,
    allow_urls: bool = False,
    limits: ImageLimits = DEFAULT_LIMITS,
    layout: CollectionLayout = OUR_LAYOUT,
) -> Source:
    """Lists a folder (recursively), a glob pattern, a manifest, or tar and zip archives.

    Each may be on this machine or at a URI that fsspec can read, such as ``s3://bucket/photos``.
    A manifest (CSV, JSONL, Parquet) has a column ``image`` with paths relative to itself, or
    URIs; its other columns become the payload. An image that is listed twice counts once.

    Args:
        types: of payload columns; by default by their values.
        allow_urls, limits: of the images; rows whose image cannot be read decide no type.
        layout: of the gallery: what ids are made of, and which column beside ``image`` may name
            the images.

    Raises BadManifest: there is nothing, no image, no ``image`` column, it cannot be read, or a
    type is chosen for a column that is not there.
    """
    listing = Listing(
        types,
        lambda uri: image_problem(uri, allow_urls, listing.own, limits),
        PointKeys.of(layout),
    )
    if not layout.ours and layout.uri_field is not None:
        listing.image_columns = (IMAGE_COLUMN, layout.uri_field)
    source = local_path(source)
    if is_remote(source):
        with readable(source):
            _list_remote(listing, source)
    else:
        _list_local(listing, source)
    listed = listing.source()
    if not len(listed) and listed.reject_count == listed.other_rejects:
        raise BadManifest(_nothing(source, listed))
    return listed


def _nothing(source: str, listed: Source) -> str:
    other = f"; it holds other files: {counted(listed.other_files)}" if listed.other_files else ""
    return (
        f"{source!r} holds no images ({', '.join(IMAGE_SUFFIXES[:2])} and others){other}. Archives "
        "are listed by a glob such as 'shards/*.tar', and a manifest by its name"
    )


def _list_local(listing: Listing, source: str) -> None:
    path = Path(source)
    if path.is_dir():
        files = local_files(path, EVERYTHING, _unreadable(listing), listing.note)
        add_folder_files(listing, files, read_heads)
    elif path.is_file():
        _add_file(listing, source, path.name)
    elif glob.has_magic(source) and Path(_split_local(source)[0]).is_dir():
        root, pattern = _split_local(source)
        files = local_files(Path(root), pattern, _unreadable(listing), listing.note)
        add_matched_files(listing, files, read_heads)
    else:
        raise BadManifest(f"{source!r}: no such file or folder; name {KINDS}")


def _split_local(source: str) -> tuple[str, Pattern]:
    return split_pattern(source, lambda path: Path(path).is_dir())


def _list_remote(listing: Listing, source: str) -> None:
    fs, name = filesystem(source)
    if glob.has_magic(source):
        root, pattern = split_pattern(name, fs.isdir)
        listing.own = fs.unstrip_protocol(root).rstrip("/") + "/"
        add_matched_files(
            listing, remote_files(fs, root, pattern, _unreadable(listing)), read_heads
        )
        return
    path = location(source)
    file = PurePosixPath(urlsplit(source).path).name
    holds_many = file.lower().endswith(MANIFEST_SUFFIXES) or is_archive(file)
    # fsspec takes a web server's folders for files
    if path.is_file() and (holds_many or not is_url(source)):
        listing.own = source.rpartition("/")[0] + "/"
        _add_file(listing, source, file)
    elif path.is_dir() or is_url(source):
        listing.own = source.rstrip("/") + "/"
        files = remote_files(fs, name, EVERYTHING, _unreadable(listing))
        add_folder_files(listing, files, read_heads)
    else:
        raise BadManifest(f"{source!r}: no such file or folder; name {KINDS}")


def _add_file(listing: Listing, place: str, name: str) -> None:
    """One file that lists or holds many images."""
    if name.lower().endswith(MANIFEST_SUFFIXES):
        add_manifest(listing, place)
    elif is_archive(name):
        add_archive(listing, place if is_remote(place) else str(Path(place).resolve()), name)
    else:
        raise BadManifest(f"{place!r} is none of: {KINDS}{_hint(name)}")


def _hint(name: str) -> str:
    """What to do with a file that is nearly a source."""
    hints = {
        ".json": "; a .jsonl manifest has one JSON object on each line",
        ".tsv": "; write the table with commas, as .csv",
        ".xlsx": "; save the table as .csv",
    }
    return hints.get(PurePosixPath(name.lower()).suffix, "")


def _unreadable(listing: Listing) -> Report:
    return lambda place, reason: listing.reject(place, f"the folder cannot be read: {reason}")
