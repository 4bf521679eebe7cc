"""A run's temporary folder, in ``TMPDIR``; what killed runs left there is removed."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX, LOCK_FILE = f"fti-listing-{socket.gethostname()}-", "lock"
"""Of this machine only: a shared folder's locks may not reach others."""

SETTLED = 60
"""Seconds after which a folder that its run does not hold is nobody's: it is made, then held."""


class Scratch:
    """Is there as long as this object; of another process's the lock tells whether it lives."""

    def __init__(self) -> None:
        remove_abandoned()
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX)
        self.path = Path(self._folder.name)
        self._lock = FileLock(self.path / LOCK_FILE, timeout=0, thread_local=False)
        with suppress(OSError):  # no locks there: what a kill leaves, stays
            self._lock.acquire()


def remove_abandoned() -> None:
    """A killed run's listing is some gigabytes at 10 million images, and of no more use."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = folder / LOCK_FILE
        try:
            if time.time() - lock.stat().st_mtime < SETTLED:
                continue
            with FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, Timeout):  # another user's, or in use
            continue
