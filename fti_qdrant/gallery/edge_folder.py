"""The folder of an embedded gallery: what is in it, and who has it open."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from fti_qdrant.atomic_files import PART
from fti_qdrant.errors import GalleryNotFound, GalleryUnavailable
from fti_qdrant.gallery.calibration import Calibration
from fti_qdrant.gallery.other_folders import what_it_is

SPEC_FILE, SHARD_FOLDER, LOCK_FILE = "gallery.json", "shard", "gallery.lock"
CALIBRATION_FILE = "calibration.json"
UNFINISHED_SPEC = SPEC_FILE + PART
"""Exists while a gallery is created. Where a kill left it, nothing was stored in the shard yet."""

LEAST_FREE = 256_000_000
"""Bytes of the disk that stay free. The engine writes through memory-mapped files: on a full disk
the system would kill the process."""

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


def followed(path: Path) -> Path:
    """The folder that a link stands for now; any other path stays as it is.

    The engine opens files while it runs: through a link that is switched meanwhile, it would open
    those of another gallery.
    """
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def read_calibration(folder: Path) -> Calibration:
    """What a gallery's folder says about the chances of its hits; without a file, nothing."""
    path = folder / CALIBRATION_FILE
    try:
        return Calibration.stored(path.read_bytes(), f"gallery {str(folder)!r}")
    except FileNotFoundError:
        return Calibration()
    except OSError as error:
        return Calibration(problem=f"the calibration {str(path)!r} cannot be read: {error}")


def check_free(folder: Path) -> None:
    """Raises GalleryUnavailable where a folder contains anything that is not ours."""
    if not folder.is_dir() or (folder / SPEC_FILE).exists():
        return
    if _has_lost_its_spec(folder):
        raise GalleryUnavailable(
            f"{_lost_spec(folder)}; restore that file, or choose another folder"
        )
    if other := what_it_is(folder):
        raise GalleryUnavailable(
            f"{str(folder)!r} is not a gallery: {other}; or choose a new or empty folder"
        )
    if contents := _contents(folder):
        raise GalleryUnavailable(
            f"{str(folder)!r} is not a gallery, and it is not empty: it contains {contents}; "
            "choose a new or empty folder for the gallery"
        )


def check_space(folder: Path) -> None:
    """Raises GalleryUnavailable where the disk is nearly full."""
    free = shutil.disk_usage(folder).free
    if free < LEAST_FREE:
        raise GalleryUnavailable(
            f"gallery {str(folder)!r}: its disk has {free / 1e6:,.0f} MB left, and "
            f"{LEAST_FREE / 1e6:,.0f} MB are kept free; free some space and run again"
        )


def not_found(folder: Path) -> GalleryNotFound:
    """The error where there is no gallery, with advice that works there."""
    where = f"no gallery at {str(folder)!r}"
    if folder.exists() and not folder.is_dir():
        return GalleryNotFound(f"{where}, which is a file; pass the folder of a gallery")
    if folder.is_dir():
        if _has_lost_its_spec(folder):
            return GalleryNotFound(f"{where}: {_lost_spec(folder)}; restore that file")
        if other := what_it_is(folder):
            return GalleryNotFound(f"{where}: {other}")
        if contents := _contents(folder):
            return GalleryNotFound(
                f"{where}: it contains {contents}, and is not the folder of a gallery; pass one "
                "that a gallery was made in"
            )
    return GalleryNotFound(
        f"{where}; create one with: fti-ingest IMAGES --gallery {shlex.quote(str(folder))}"
    )


def _has_lost_its_spec(folder: Path) -> bool:
    return (folder / SHARD_FOLDER).exists() and not (folder / UNFINISHED_SPEC).exists()


def _lost_spec(folder: Path) -> str:
    return f"{str(folder / SHARD_FOLDER)!r} exists without a {SPEC_FILE} beside it"


def _contents(folder: Path) -> str:
    """What is in a folder beside the files of a gallery that is not finished; empty for nothing."""
    try:
        names = sorted(path.name for path in folder.iterdir())
    except OSError as error:
        raise GalleryUnavailable(f"gallery {str(folder)!r} cannot be opened: {error}") from error
    allowed = MAY_BE_THERE | ({SHARD_FOLDER} if UNFINISHED_SPEC in names else set())
    others = [name for name in names if name not in allowed]
    more = f" and {len(others) - 1} more" if others[1:] else ""
    return f"{others[0]!r}{more}" if others else ""


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
