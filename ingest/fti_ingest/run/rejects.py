"""Lists of bad files and of duplicates, written at once, so that a killed run leaves them too."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from fti_ingest.sources.source import Reject
from fti_qdrant.errors import OutputUnavailable

L = TypeVar("L", bound="LinesFile")


class LinesFile:
    """A file with a JSON line for each object of one run; removed if there is none."""

    what = "lines"

    def __init__(self, path: Path):
        """Raises OutputUnavailable where the file cannot be written, before any work is done.

        The message names the option ``--<what>``.
        """
        self.path = path
        self.first: Any = None
        self.count = 0
        try:
            self._file = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise OutputUnavailable(
                f"{self.what} cannot be written: {error}; choose --{self.what} FILE"
            ) from error

    def add(self, one: Any) -> None:
        """Raises OutputUnavailable where the disk is full."""
        self.first = self.first or one
        self.count += 1
        try:
            self._file.write(json.dumps(asdict(one)) + "\n")
        except OSError as error:
            raise OutputUnavailable(f"{self.path}: {error}") from error

    def __enter__(self: L) -> L:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with suppress(OSError):  # a failed write was reported by add
            self._file.close()
        if self.first is None:
            self.path.unlink(missing_ok=True)


class RejectsFile(LinesFile):
    """``rejects.jsonl``: a line ``{"uri": ..., "reason": ...}`` for each bad file."""

    what = "rejects"


class DuplicatesFile(LinesFile):
    """``duplicates.jsonl``: a line ``{"id", "uri", "of", "of_uri", "kind"}`` for each."""

    what = "duplicates"


def read_rejects(path: Path) -> list[Reject]:
    """The rejects of an earlier run; empty without a file. A half-written line is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(Reject(**json.loads(line)))
        except (json.JSONDecodeError, TypeError):
            continue
    return found
