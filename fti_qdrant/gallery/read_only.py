"""Galleries in folders that cannot be written, such as read-only mounts.

Qdrant Edge opens nearly all of its files for writing, so it is given a copy of its own.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fti_qdrant.errors import GalleryUnavailable
from fti_qdrant.gallery.edge_folder import LOCK_FILE, SHARD_FOLDER, open_already

CHUNK = 1 << 22
"""Bytes copied at a time."""

SPARE = 1.1
"""Disk that is asked for, over the size of the data."""


class PrivateCopy:
    """A copy of a gallery's shard in a temporary folder, removed by ``remove`` or at the exit."""

    _finalizer: weakref.finalize | None = None

    def __init__(self, folder: Path):
        """Copies while no other process has the gallery open.

        Raises GalleryUnavailable: open in another process, or no space for the copy.
        """
        with _read_lock(folder):
            try:
                parent = Path(tempfile.gettempdir())
                _check_space(folder, parent)
                self.path = Path(tempfile.mkdtemp(prefix="fti-gallery-", dir=parent))
                self._finalizer = weakref.finalize(self, _remove, self.path, os.getpid())
                _copy_tree(folder / SHARD_FOLDER, self.path / SHARD_FOLDER)
            except OSError as error:
                self.remove()
                raise GalleryUnavailable(
                    f"gallery {str(folder)!r} is read-only, and no copy to search in can be made "
                    f"({error}); set TMPDIR to a folder with space for one"
                ) from error

    def remove(self) -> None:
        if self._finalizer is not None:
            self._finalizer()


def is_read_only(folder: Path) -> bool:
    """Whether nothing can be written into an existing folder."""
    return folder.is_dir() and not os.access(folder, os.W_OK)


@contextmanager
def _read_lock(folder: Path) -> Iterator[None]:
    """Keeps writers out, who lock the same file, as far as they are on this machine."""
    try:
        import fcntl
    except ImportError:  # not on Windows
        yield
        return
    try:
        file = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        yield
        return
    except OSError as error:
        raise GalleryUnavailable(f"gallery {str(folder)!r} cannot be opened: {error}") from error
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                raise open_already(folder) from None
            # a file system without locks; nobody else can write there through this mount
        yield
    finally:
        os.close(file)


def _check_space(folder: Path, parent: Path) -> None:
    files = [path.stat() for path in (folder / SHARD_FOLDER).rglob("*") if path.is_file()]
    needed = SPARE * sum(map(_data_of, files))
    free = shutil.disk_usage(parent).free
    if needed > free:
        raise GalleryUnavailable(
            f"gallery {str(folder)!r} is read-only, and a copy to search in needs "
            f"{needed / 1e6:,.0f} MB, where {parent} has {free / 1e6:,.0f} MB; set TMPDIR to a "
            "folder with more space, or open the gallery where it can be written"
        )


def _data_of(file: os.stat_result) -> int:
    """Bytes without holes; Windows has no figure for that."""
    return min(file.st_size, 512 * getattr(file, "st_blocks", file.st_size))


def _copy_tree(source: Path, target: Path) -> None:
    for path in source.rglob("*"):
        copy = target / path.relative_to(source)
        if path.is_dir():
            copy.mkdir(parents=True, exist_ok=True)
        else:
            copy.parent.mkdir(parents=True, exist_ok=True)
            _copy_file(path, copy)


def _copy_file(source: Path, target: Path) -> None:
    """Copies data and leaves holes: most of the engine's files are reserved and empty."""
    if not hasattr(os, "SEEK_DATA"):
        shutil.copyfile(source, target)
        return
    with source.open("rb") as read, target.open("wb") as write:
        size = os.fstat(read.fileno()).st_size
        write.truncate(size)
        at = 0
        while at < size:
            try:
                at = os.lseek(read.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole
                    return
                raise
            end = os.lseek(read.fileno(), at, os.SEEK_HOLE)
            while at < end:
                at += os.pwrite(
                    write.fileno(), os.pread(read.fileno(), min(CHUNK, end - at), at), at
                )


def _remove(path: Path, owner: int) -> None:
    if os.getpid() == owner:  # a forked child leaves the copy to its parent
        shutil.rmtree(path, ignore_errors=True)
