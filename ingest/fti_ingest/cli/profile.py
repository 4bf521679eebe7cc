"""``--profile``: where the time of a run went."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

from fti_ingest.run.report import RunReport


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
