"""The files that a run writes beside the gallery, and the options that put them elsewhere."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click

from fti_qdrant.gallery.location import EmbeddedLocation, GalleryLocation

F = TypeVar("F", bound=Callable[..., Any])

FILE = click.Path(path_type=Path, dir_okay=False)
OPTIONS = (
    click.option("--rejects", type=FILE, help="List of bad files.  [default: rejects.jsonl]"),
    click.option(
        "--duplicates",
        type=FILE,
        help="List of duplicates, with --dedupe.  [default: duplicates.jsonl]",
    ),
    click.option("--report", type=FILE, help="The run in figures.  [default: report.json]"),
    click.option("--log", type=FILE, help="Events and retries as JSON lines, appended."),
)


@dataclass(frozen=True)
class Outputs:
    """Where they go: into an embedded gallery's folder, of a server's into this one."""

    rejects: Path | None
    duplicates: Path | None
    report: Path | None
    log: Path | None

    def rejects_at(self, location: GalleryLocation) -> Path:
        return self.rejects or _beside(location) / "rejects.jsonl"

    def duplicates_at(self, location: GalleryLocation) -> Path:
        return self.duplicates or _beside(location) / "duplicates.jsonl"

    def report_at(self, location: GalleryLocation) -> Path:
        return self.report or _beside(location) / "report.json"


def _beside(location: GalleryLocation) -> Path:
    return location.path if isinstance(location, EmbeddedLocation) else Path()


def outputs_options(command: F) -> F:
    """Adds the options; the command gets one ``outputs``."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        rejects: Path | None,
        duplicates: Path | None,
        report: Path | None,
        log: Path | None,
        **options: Any,
    ) -> Any:
        return command(*args, outputs=Outputs(rejects, duplicates, report, log), **options)

    for option in reversed(OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]
