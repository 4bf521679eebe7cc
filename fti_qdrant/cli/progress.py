"""The progress bar of the commands, on standard error."""

from __future__ import annotations

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fti_qdrant.cli.logging_options import is_quiet


def step_progress(*, transient: bool = False) -> Progress:
    """Description, bar, steps done and in total, time left; nothing with ``--quiet``.

    Args:
        transient: remove the bar when the work is done.
    """
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=transient,
        disable=is_quiet(),
    )
