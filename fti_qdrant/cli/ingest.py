"""Ingest in this process, for the commands that fill a gallery of their own.

The library does not import the applications that are built on it. The commands may, when they run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fti_qdrant.cli.user_text import print_lines

if TYPE_CHECKING:
    from fti_ingest.run.ingest import IngestJob


def run_ingest(job: IngestJob) -> None:
    """Runs a job with a progress bar, and prints what it did. Raises FtiError."""
    from fti_ingest.cli.run import progress_bar
    from fti_ingest.run.ingest import ingest

    with progress_bar() as callbacks:
        report = ingest(job, callbacks)
    print_lines(report.line())
