"""What a run reports, in its logs, its list of unreadable pictures and its progress bar."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import Progress

from fti_ingest.run.rejects import RejectsFile, read_rejects
from fti_ingest.sources.source import Reject
from fti_qdrant.cli.progress import step_progress
from fti_qdrant.errors import OutputUnavailable, first_line
from fti_training.loop.events import Began, Event, Skipped, Stepped, Stopped, Validated
from fti_training.loop.records import Records, Row

REJECTS = "rejects.jsonl"
LOSSES = ("contrastive", "orthogonality", "tri_wise", "triplet")


class Recorder:
    """Takes the events of one run.

    Attributes:
        skipped: URIs of the pictures that could not be read.
        last: the figures of the last logged step; empty before the first.
        stopped: the early end of the run; None where it went, or goes, to its last step.
    """

    def __init__(self, name: str, records: Records, rejects: RejectsFile, progress: Progress):
        self.name = name
        self.records = records
        self.rejects = rejects
        self.progress = progress
        self.skipped: set[str] = set()
        self.last: Row = {}
        self.stopped: Stopped | None = None
        self._task = progress.add_task(name, total=None)

    def handle(self, event: Event) -> None:
        """Raises OutputUnavailable where the logs cannot be written."""
        try:
            self._record(event)
        except OSError as error:
            raise OutputUnavailable(
                f"the log in {str(self.records.folder)!r} cannot be written: {first_line(error)}"
            ) from error

    def _record(self, event: Event) -> None:
        if isinstance(event, Began):
            self.records.begin(event.step)
            self._show(completed=event.step)
        elif isinstance(event, Stepped):
            self.records.stepped(event.step, event.figures)
            self.last = {"step": event.step, **event.figures}
            self._show(completed=event.step, description=f"{self.name} {brief(event.figures)}")
        elif isinstance(event, Validated):
            self.records.validated(event.step, event.figures)
        elif isinstance(event, Stopped):
            self.stopped = event
        elif isinstance(event, Skipped):
            self.skip(event.reject)

    def skip(self, reject: Reject) -> None:
        """Lists a picture once, however often it is met."""
        if reject.uri not in self.skipped:
            self.skipped.add(reject.uri)
            self.rejects.add(reject)

    def _show(self, **changes: Any) -> None:
        self.progress.update(self._task, **changes)


@contextmanager
def recording(
    name: str, folder: Path, steps: int, resume: bool = False, board: bool = True
) -> Iterator[Recorder]:
    """A recorder that writes to a folder, and a progress bar of ``steps`` on standard error.

    Args:
        resume: whether the pictures that were listed before stay listed.
        board: whether TensorBoard events are wanted.
    """
    folder.mkdir(parents=True, exist_ok=True)
    before = read_rejects(folder / REJECTS) if resume else []
    records = Records(folder, board)
    with RejectsFile(folder / REJECTS) as rejects, step_progress() as progress:
        recorder = Recorder(name, records, rejects, progress)
        recorder._show(total=steps)
        for reject in before:
            recorder.skip(reject)
        try:
            yield recorder
        finally:
            records.close()


def brief(figures: Row) -> str:
    """A step's figures, short enough to stand beside a progress bar."""
    parts = []
    if "total" in figures:
        losses = " ".join(f"{figures[name]:.3f}" for name in LOSSES if name in figures)
        parts.append(f"loss {figures['total']:.3f} ({losses}) r {figures['mean_count']:.1f}")
    elif "loss" in figures:
        parts.append(f"loss {figures['loss']:.3f}")
    return " ".join([*parts, f"{figures['images_per_s']:.1f}/s"])
