"""Files of folders and globs: images are listed, and no other file is left out in silence."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path

from fti_ingest.sources.archives import add_archive, is_archive
from fti_ingest.sources.image_files import NO_IMAGE, FileKind, is_hidden, is_image, kind_by_name
from fti_ingest.sources.listing import Listing
from fti_ingest.sources.source import Item
from fti_qdrant.errors import BadImage
from fti_qdrant.images.fetch import reason_of

Heads = Callable[[Sequence[str]], Sequence[bytes | BadImage]]
"""The first bytes of files, by path or URI, or why they cannot be read."""

CHUNK = 256
"""Files whose first bytes are read at once, where their names do not say what they are."""

ARCHIVE_IN_FOLDER = "an archive in a folder is not looked into; ingest it by its name or by a glob"


def add_folder_files(listing: Listing, files: Iterable[tuple[str, str]], heads: Heads) -> None:
    """Adds the files of a folder, each as (path or URI, key)."""
    for chunk in _chunks(files):
        _add_files(listing, chunk, heads, _leave_out_archive)


def add_matched_files(listing: Listing, files: Iterable[tuple[str, str]], heads: Heads) -> None:
    """Adds the files that a glob matches, among them archives, each as (path or URI, key)."""
    for chunk in _chunks(files):
        _add_files(listing, chunk, heads, add_archive)


def _chunks(files: Iterable[tuple[str, str]]) -> Iterable[list[tuple[str, str]]]:
    waiting = iter(files)
    return iter(lambda: list(islice(waiting, CHUNK)), [])


def _add_files(
    listing: Listing,
    files: list[tuple[str, str]],
    heads: Heads,
    take_archive: Callable[[Listing, str, str], None],
) -> None:
    kinds = {place: kind_by_name(key) for place, key in files if not is_archive(place)}
    unclear = [place for place, kind in kinds.items() if kind is FileKind.UNCLEAR]
    found = dict(zip(unclear, heads(unclear))) if unclear else {}
    for place, key in files:
        kind = kinds.get(place)
        if kind is None:
            take_archive(listing, place, key)
        elif kind is FileKind.IMAGE:
            listing.add(Item(key, place))
        elif kind is FileKind.OTHER:
            listing.leave_out(key, place)
        else:
            _add_by_content(listing, place, key, found[place])


def _add_by_content(listing: Listing, place: str, key: str, head: bytes | BadImage) -> None:
    if isinstance(head, BadImage):
        path = Path(place)
        if path.is_symlink() and not path.exists():
            target = str(path.readlink())
            listing.reject(place, f"a link to {target!r}, which is not there or cannot be reached")
        else:
            listing.leave_out(key, place, reason_of(head, place))
    elif is_image(head):
        listing.add(Item(key, place))
    else:
        surely_none = not head or is_hidden(key)
        listing.leave_out(key, place, "" if surely_none else NO_IMAGE)


def _leave_out_archive(listing: Listing, place: str, key: str) -> None:
    listing.leave_out_archive(key, place, ARCHIVE_IN_FOLDER)
