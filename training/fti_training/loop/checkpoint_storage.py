"""Where a run keeps its checkpoints: a folder on this machine, or any URL that fsspec knows.

URL/checkpoints/step-00000500/    the files of one checkpoint, and checkpoint.json, written last

A folder without ``checkpoint.json`` was interrupted while it was written, and does not count.
"""

from __future__ import annotations

import json
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from safetensors import SafetensorError

from fti_qdrant.atomic_files import replacing, write_text
from fti_qdrant.errors import CheckpointError, FtiError, OutputUnavailable, first_line
from fti_training.loop.best_figure import best_step

FOLDER, INDEX = "checkpoints", "checkpoint.json"
NAME = re.compile(r"step-\d{8}")
EARLIER_VERSION = "checkpoint_manager_snapshot.json"
"""Only runs of versions before 0.2 have this file; they were written by Ray Train itself."""

NEWEST_KEPT = 2


@dataclass(frozen=True)
class StoredCheckpoint:
    """A complete checkpoint.

    Attributes:
        path: of its folder, as the file system names it.
        figures: of the validation; empty where there was none.
    """

    path: str
    step: int
    figures: dict[str, float]


@dataclass(frozen=True)
class CheckpointStorage:
    """The checkpoints of one run: the newest two, and the best one.

    Attributes:
        system: a file system of fsspec.
        path: the folder that holds ``checkpoints``, as the file system names it.
        score: the validation figure by which the best is chosen; see ``best_step``.
    """

    url: str
    system: Any
    path: str
    score: str | None = None

    @classmethod
    def at(cls, url: str, score: str | None = None) -> CheckpointStorage:
        """Raises FtiError where fsspec does not know the protocol, or its package is missing."""
        try:
            system, path = fsspec.core.url_to_fs(url)
            system.makedirs(path, exist_ok=True)
        except (ValueError, ImportError, OSError) as error:
            reason = " ".join(str(error).split())
            raise FtiError(f"checkpoints cannot be kept at {url!r}: {reason}") from error
        return cls(url, system, path, score)

    def __str__(self) -> str:
        return repr(f"{self.url}/{FOLDER}")

    @property
    def folder(self) -> str:
        return f"{self.path}/{FOLDER}"

    @property
    def is_local(self) -> bool:
        return isinstance(self.system, LocalFileSystem)

    def stored(self) -> list[StoredCheckpoint]:
        """All complete checkpoints, oldest first.

        Raises CheckpointError where one cannot be read, or an earlier version wrote them.
        """
        self.system.invalidate_cache()
        found = [self._read(path) for path in self._complete()]
        if not found and self.system.exists(f"{self.folder}/{EARLIER_VERSION}"):
            raise CheckpointError(
                f"{self} was written by an earlier version of fti-qdrant, and cannot be resumed; "
                "train into another --out"
            )
        return sorted(found, key=lambda one: one.step)

    def newest(self) -> StoredCheckpoint | None:
        return next(reversed(self.stored()), None)

    def best(self) -> StoredCheckpoint | None:
        """The one with the best score, the earliest of equals; None without a validation."""
        stored = {one.step: one for one in self.stored()}
        if self.score is None:
            return None
        step = best_step({step: one.figures for step, one in stored.items()}, self.score)
        return None if step is None else stored[step]

    @contextmanager
    def opened(self, checkpoint: StoredCheckpoint) -> Iterator[Path]:
        """Its folder on this machine; a copy where the storage is remote."""
        if self.is_local:
            yield Path(checkpoint.path)
            return
        with tempfile.TemporaryDirectory() as copy:
            try:
                self.system.get(f"{checkpoint.path}/", f"{copy}/", recursive=True)
            except OSError as error:
                raise CheckpointError(f"{self} cannot be read: {first_line(error)}") from error
            yield Path(copy)

    def restore_newest(self, load: Callable[[Path], None]) -> None:
        """Calls ``load`` with the newest checkpoint's folder, if there is one."""
        newest = self.newest()
        if newest is not None:
            with self.opened(newest) as folder:
                load(folder)

    def check_shared(self) -> None:
        """Raises CheckpointError where this machine does not see the folder that the driver made.

        Otherwise the checkpoints of a worker elsewhere would stay on its own disk.
        """
        if self.is_local and not Path(self.folder).is_dir():
            raise CheckpointError(
                f"the worker on {socket.gethostname()} does not see {self}; pass --storage with a "
                "folder or URL that all machines share"
            )

    def make_folder(self) -> None:
        self.system.makedirs(self.folder, exist_ok=True)

    def write(self, step: int, figures: dict[str, float], write: Callable[[Path], None]) -> None:
        """Keeps a checkpoint, then deletes those that are neither new nor the best.

        Args:
            write: writes the files to an empty folder.

        Raises OutputUnavailable where they cannot be written; those before it stay.
        """
        path = f"{self.folder}/step-{step:08}"
        index = json.dumps({"step": step, "figures": figures})
        try:
            self._write(path, index, write)
            self._delete_old()
        except (OSError, SafetensorError) as error:
            raise OutputUnavailable(
                f"the checkpoint of step {step} cannot be written to {self}: {first_line(error)}; "
                "the one before it is kept: make room, then continue with --resume"
            ) from error

    def _write(self, path: str, index: str, write: Callable[[Path], None]) -> None:
        if self.is_local:
            with replacing(Path(path)) as part:
                part.mkdir()
                write(part)
                write_text(part / INDEX, index)
            return
        if self.system.exists(path):
            self.system.rm(path, recursive=True)
        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder))
            self.system.put(f"{folder}/", f"{path}/", recursive=True)
        self.system.pipe_file(f"{path}/{INDEX}", index.encode())

    def _delete_old(self) -> None:
        """The index goes first: what is deleted in part does not count as a checkpoint."""
        stored = self.stored()
        kept = [*stored[-NEWEST_KEPT:], self.best()]
        for old in stored:
            if old not in kept:
                self.system.rm_file(f"{old.path}/{INDEX}")
                self.system.rm(old.path, recursive=True)

    def _complete(self) -> Iterator[str]:
        """The folders that have an index."""
        if not self.system.exists(self.folder):
            return
        for name in self.system.ls(self.folder, detail=False):
            path = name.rstrip("/")
            if NAME.fullmatch(path.rpartition("/")[2]) and self.system.exists(f"{path}/{INDEX}"):
                yield path

    def _read(self, path: str) -> StoredCheckpoint:
        try:
            facts = json.loads(self.system.cat_file(f"{path}/{INDEX}"))
            return StoredCheckpoint(path, int(facts["step"]), dict(facts["figures"]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"checkpoint {path!r} cannot be used ({first_line(error)}); delete its folder to "
                "resume from the checkpoint before it"
            ) from error
