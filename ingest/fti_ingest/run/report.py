"""``report.json``: a run in figures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel

from fti_ingest.engine.protocol import EngineName
from fti_ingest.run.outcome import Outcome, StageUse, advice
from fti_ingest.sources.column_types import Column
from fti_qdrant.atomic_files import write_text
from fti_qdrant.errors import OutputUnavailable
from fti_qdrant.gallery.recall import Recall


class RunReport(BaseModel):
    """``report.json``; times are UTC, durations seconds.

    ``images_per_second`` leaves out the first batch, which waits for the model to load.
    ``outdated`` counts duplicates whose original changed later in the same run. ``other_files`` are
    the files of the source that are no images, by suffix; those that could have been are rejected.
    ``columns`` are the payload columns with their types. ``foreign`` are images that the gallery
    holds as another program stored them. ``recall`` is measured after a bulk load, and in a
    quantized collection.
    """

    format: Literal[1] = 1
    version: str
    source: str
    gallery: str
    model: str
    engine: EngineName
    began: datetime
    ended: datetime
    images: int
    stored: int
    updated: int
    unchanged: int
    rejected: int
    skipped: int
    pruned: int
    duplicates: dict[str, int] | None
    outdated: int
    seconds: float
    seconds_to_first: float
    images_per_second: float | None
    stages: list[StageUse]
    advice: str
    rejects_file: str | None
    duplicates_file: str | None
    other_files: dict[str, int] = {}
    columns: list[Column] = []
    foreign: int = 0
    recall: Recall | None = None

    def line(self) -> str:
        """The counts in a sentence."""
        updated = f", {self.updated:,} updated (payload only)" if self.updated else ""
        foreign = f", {self.foreign:,} left as another program stored them" if self.foreign else ""
        skipped = f", {self.skipped:,} skipped as duplicates" if self.skipped else ""
        pruned = f", {self.pruned:,} pruned" if self.pruned else ""
        rate = "" if self.images_per_second is None else f"; {self.images_per_second:,.1f} images/s"
        return (
            f"{self.images:,} images in: {self.stored:,} stored, {self.unchanged:,} unchanged, "
            f"{self.rejected:,} rejected{updated}{foreign}{skipped}{pruned}{rate}"
        )

    def write(self, path: Path) -> None:
        """Raises OutputUnavailable."""
        text = self.model_dump_json(indent=2) + "\n"
        with _writing():
            if path.exists() and not path.is_file():  # /dev/stdout, a named pipe
                path.write_text(text, encoding="utf-8")
            else:
                write_text(path, text)

    @staticmethod
    def make_room(path: Path) -> None:
        """Removes the report of an earlier run. Raises OutputUnavailable."""
        with _writing():
            target = path.resolve()
            target.open("a").close()
            if target.is_file():  # not a device
                target.unlink()


@contextmanager
def _writing() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputUnavailable(
            f"the report cannot be written: {error}; choose --report FILE"
        ) from error


def counts_and_times(outcome: Outcome, uses: list[StageUse]) -> dict[str, Any]:
    """The part of a report that says what became of the images, and where the time went."""
    names = ("images", "stored", "updated", "unchanged", "rejected", "foreign", "skipped", "pruned")
    return {
        **{name: getattr(outcome, name) for name in names},
        "seconds": round(outcome.seconds, 3),
        "seconds_to_first": round(outcome.first, 3),
        "images_per_second": None if outcome.rate is None else round(outcome.rate, 3),
        "stages": [_rounded(use) for use in uses],
        "advice": advice(uses),
    }


def now() -> datetime:
    return datetime.now(timezone.utc)


def _rounded(use: StageUse) -> StageUse:
    return StageUse(use.stage, *(round(value, 4) for value in (use.seconds, use.share, use.busy)))
