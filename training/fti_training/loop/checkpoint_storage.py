"""Where checkpoints are kept: a folder here, or any place that fsspec knows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import fsspec
from fsspec.implementations.local import LocalFileSystem
from pyarrow.fs import FSSpecHandler, PyFileSystem

from fti_qdrant.errors import FtiError

RUN = "checkpoints"


@dataclass(frozen=True)
class Storage:
    """A folder on a file system.

    Attributes:
        system: fsspec's.
        path: below which the run keeps its checkpoints, in the file system's own words.
    """

    url: str
    system: Any
    path: str

    @staticmethod
    def at(url: str) -> Storage:
        """Raises FtiError where fsspec does not know the protocol, or its package is missing."""
        try:
            system, path = fsspec.core.url_to_fs(url)
            system.makedirs(path, exist_ok=True)
        except (ValueError, ImportError, OSError) as error:
            reason = " ".join(str(error).split())
            raise FtiError(f"checkpoints cannot be kept at {url!r}: {reason}") from error
        return Storage(url, system, path)

    def holds_a_run(self) -> bool:
        return bool(self.system.exists(f"{self.path}/{RUN}"))

    def run_config(self) -> dict[str, Any]:
        """Name and place of the run, as Ray Train takes them."""
        if isinstance(self.system, LocalFileSystem):
            return {"name": RUN, "storage_path": str(Path(self.path).resolve())}
        filesystem = PyFileSystem(FSSpecHandler(self.system))
        return {"name": RUN, "storage_path": self.path, "storage_filesystem": filesystem}

    def __str__(self) -> str:
        return repr(f"{self.url}/{RUN}")
