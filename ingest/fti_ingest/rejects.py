"""The list of bad files, written as they are found, so that a run that dies leaves it behind."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType

from fti_ingest.listing import Reject
from fti_qdrant.errors import FtiError


class RejectsFile:
    """``rejects.jsonl``: a line ``{"uri": ..., "reason": ...}`` for each; of this run only.

    Without rejects there is no file.
    """

    def __init__(self, path: Path):
        """Raises FtiError where the file cannot be written: at the start, not after hours."""
        self.path = path
        self.first: Reject | None = None
        self.count = 0
        try:
            self._file = path.open("w", encoding="utf-8", buffering=1)
        except OSError as error:
            raise FtiError(f"rejects cannot be written: {error}; choose --rejects FILE") from error

    def add(self, reject: Reject) -> None:
        self.first = self.first or reject
        self.count += 1
        self._file.write(json.dumps({"uri": reject.uri, "reason": reject.reason}) + "\n")

    def __enter__(self) -> RejectsFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()
        if self.first is None:
            self.path.unlink(missing_ok=True)


def read_rejects(path: Path) -> list[Reject]:
    """What an earlier run listed; none where there is no file. A half-written line is left out."""
    found = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            found.append(Reject(**json.loads(line)))
        except (json.JSONDecodeError, TypeError):
            continue
    return found
