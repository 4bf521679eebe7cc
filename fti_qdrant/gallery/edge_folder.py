"""The folder of an embedded gallery: what is in it, and who has it open."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fti_qdrant.atomic_files import PART
from fti_qdrant.errors import GalleryUnavailable

SPEC_FILE, SHARD_FOLDER, LOCK_FILE = "gallery.json", "shard", "gallery.lock"
UNFINISHED_SPEC = SPEC_FILE + PART
"""Exists while a gallery is created. Where a kill left it, nothing was stored in the shard yet."""

RUN_FILES = ("rejects.jsonl", "duplicates.jsonl", "report.json")
"""What fti-ingest writes into a gallery's folder, possibly before it creates the gallery."""

SYSTEM_FILES = ("lost+found", ".DS_Store")
"""What a file system or a desktop leaves in an empty folder."""

MAY_BE_THERE = {
    LOCK_FILE,
    UNFINISHED_SPEC,
    *SYSTEM_FILES,
    *RUN_FILES,
    *(name + PART for name in RUN_FILES),
}


def check_free(folder: Path) -> None:
    """Raises GalleryUnavailable where a folder contains anything that is not ours."""
    if not folder.is_dir() or (folder / SPEC_FILE).exists():
        return
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise GalleryUnavailable(f"gallery {str(folder)!r} cannot be opened: {error}") from error
    allowed = MAY_BE_THERE | ({SHARD_FOLDER} if UNFINISHED_SPEC in names else set())
    others = [name for name in names if name not in allowed]
    if SHARD_FOLDER in others:
        raise GalleryUnavailable(
            f"{str(folder / SHARD_FOLDER)!r} exists without a {SPEC_FILE} beside it; restore that "
            "file, or choose another folder"
        )
    if others:
        more = f" and {len(others) - 1} more" if others[1:] else ""
        raise GalleryUnavailable(
            f"{str(folder)!r} is not a gallery, and it is not empty: it contains {others[0]!r}"
            f"{more}; choose a new or empty folder for the gallery"
        )


def open_already(folder: Path) -> GalleryUnavailable:
    return GalleryUnavailable(
        f"gallery {str(folder)!r} is open already, here or in another process; close it there, or "
        "use a Qdrant server to share one"
    )


@contextmanager
def locked(folder: Path, *, make: bool) -> Iterator[FileLock]:
    """Takes the gallery's lock, and releases it where opening fails.

    Raises GalleryUnavailable: open already, or the folder cannot be used.
    """
    try:
        if make:
            folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder / LOCK_FILE, timeout=0, thread_local=False)
        lock.acquire()
    except (Timeout, RuntimeError):
        raise open_already(folder) from None
    except OSError as error:
        raise GalleryUnavailable(f"gallery {str(folder)!r} cannot be opened: {error}") from error
    try:
        yield lock
    except BaseException:
        lock.release()
        raise
