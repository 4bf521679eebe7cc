"""The options that say where the files of a run go."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from fti_ingest.run.output_files import OutputFiles

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
    click.option("--log", type=FILE, help="Append events and retries to this file, as JSON lines."),
)


def output_options(command: F) -> F:
    """Adds the options; the command gets one ``files``."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        rejects: Path | None,
        duplicates: Path | None,
        report: Path | None,
        log: Path | None,
        **options: Any,
    ) -> Any:
        return command(*args, files=OutputFiles(rejects, duplicates, report, log), **options)

    for option in reversed(OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]
