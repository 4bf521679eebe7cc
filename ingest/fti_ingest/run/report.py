"""What a run leaves behind to read: report.json, the profile, and a log of JSON lines."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel
from pythonjsonlogger.json import JsonFormatter
from rich.console import Console
from rich.table import Table

from fti_ingest.run.outcome import Outcome, StageUse, advice
from fti_qdrant.errors import OutputUnavailable

LOGGED = ("fti_ingest", "fti_qdrant")
"""Loggers whose records a log takes."""

logger = logging.getLogger("fti_ingest")


class RunReport(BaseModel):
    """``report.json``; times are UTC, durations seconds.

    ``images_per_second`` counts from when the workers had started.
    """

    format: Literal[1] = 1
    version: str
    source: str
    gallery: str
    model: str
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
    seconds: float
    seconds_to_first: float
    images_per_second: float | None
    stages: list[StageUse]
    advice: str
    rejects_file: str | None
    duplicates_file: str | None

    def write(self, path: Path) -> None:
        """Raises OutputUnavailable."""
        with _told_unwritable():
            path.write_text(self.model_dump_json(indent=2) + "\n", encoding="utf-8")

    @staticmethod
    def make_room(path: Path) -> None:
        """Removes an earlier run's, which a failing one would leave. Raises OutputUnavailable."""
        with _told_unwritable():
            there = path.resolve()
            there.open("a").close()
            if there.is_file():  # no device
                there.unlink()


@contextmanager
def _told_unwritable() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputUnavailable(
            f"the report cannot be written: {error}; choose --report FILE"
        ) from error


def counts_and_times(outcome: Outcome, uses: list[StageUse]) -> dict[str, Any]:
    """The part of a report that says what became of the images, and where the time went."""
    names = ("images", "stored", "updated", "unchanged", "rejected", "skipped", "pruned")
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


def print_profile(report: RunReport) -> None:
    """The stages as a table, and what to change."""
    table = Table("stage", "seconds", "share of the work", "busy", title="Where the time went")
    for use in report.stages:
        table.add_row(use.stage, f"{use.seconds:,.1f}", f"{use.share:.0%}", f"{use.busy:.0%}")
    table.caption = (
        f"seconds of all workers together; {report.seconds_to_first:.1f} s of "
        f"{report.seconds:.1f} s passed before the first images were done"
    )
    console = Console()
    console.print(table)
    console.print(report.advice, soft_wrap=True)


@contextmanager
def json_log(path: Path | None) -> Iterator[None]:
    """Records of ours, also those of retries, as JSON lines in a file. Raises OutputUnavailable."""
    if path is None:
        yield
        return
    try:
        handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    except OSError as error:
        raise OutputUnavailable(f"the log cannot be written: {error}; choose --log FILE") from error
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}", style="{", timestamp=True, json_ensure_ascii=False
        )
    )
    before = [(one, one.level) for one in map(logging.getLogger, LOGGED)]
    for one, _ in before:
        one.addHandler(handler)
        one.setLevel(logging.INFO)
        one.propagate = False
    try:
        yield
    except BaseException as error:
        logger.error("failed", extra={"error": str(error) or type(error).__name__})
        raise
    finally:
        for one, level in before:
            one.removeHandler(handler)
            one.setLevel(level)
            one.propagate = True
        handler.close()
