"""A run's temporary folder, in ``TMPDIR``. Those of killed runs are removed."""

from __future__ import annotations

import shutil
import socket
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

PREFIX, LOCK_FILE = f"fti-listing-{socket.gethostname()}-", "lock"
"""With the machine's name: in a shared folder, locks may not work between machines."""

SETTLED = 60
"""Seconds that a run has to lock its new folder, before others may remove it."""


class Scratch:
    """A folder that exists as long as this object. A lock tells others that its run is alive."""

    def __init__(self) -> None:
        remove_abandoned()
        self._folder = tempfile.TemporaryDirectory(prefix=PREFIX)
        self.path = Path(self._folder.name)
        self._lock = FileLock(self.path / LOCK_FILE, timeout=0, thread_local=False)
        with suppress(OSError):  # no locks on this filesystem: killed runs leave their folders
            self._lock.acquire()


def remove_abandoned() -> None:
    """Removes the folders of killed runs: some gigabytes for 10 million images."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        lock = folder / LOCK_FILE
        try:
            if time.time() - lock.stat().st_mtime < SETTLED:
                continue
            with FileLock(lock, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
        except (OSError, Timeout):  # another user's, or in use
            continue
