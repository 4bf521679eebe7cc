"""``fti-eval compare``: is the difference between two runs statistically significant?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.evaluate.options import json_option
from fti_qdrant.cli.logging_options import logging_options
from fti_qdrant.cli.user_text import as_text, print_json, print_lines

if TYPE_CHECKING:
    from fti_qdrant.benchmarks.compare import ComparedRun, Difference

EPILOG = """\b
Examples:
  fti-eval compare eval/a/metrics.json eval/b/metrics.json
  fti-eval compare eval/a eval/a --composer fti --against subject
"""


@click.command("compare", epilog=EPILOG)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--composer", help="Composer of both runs.  [default: the first of each run]")
@click.option("--against", help="Composer of B, if it is another one.")
@click.option(
    "--resamples",
    type=click.IntRange(100),
    default=10_000,
    show_default=True,
    help="Number of bootstrap samples.",
)
@json_option
@logging_options
@one_line_errors(after_stop="nothing was changed")
def compare_command(
    a: Path, b: Path, composer: str | None, against: str | None, resamples: int, as_json: bool
) -> None:
    """Compare two runs over the same queries: B - A with 95 % paired bootstrap intervals.

    A and B are metrics.json files or the folders that hold them.
    """
    from fti_qdrant.benchmarks.compare import ComparedRun, compare
    from fti_qdrant.cli.extras import need

    need("scipy", "eval")
    runs = ComparedRun.read(a, composer), ComparedRun.read(b, against or composer)
    differences = compare(*runs, resamples)
    if as_json:
        print_json(
            {
                "resamples": resamples,
                "notes": {str(run.path): run.metrics.notes for run in runs},
                "differences": [
                    {**asdict(one), "significant": one.significant} for one in differences
                ],
            }
        )
        return
    _print(runs, differences)


def _print(runs: tuple[ComparedRun, ComparedRun], differences: Sequence[Difference]) -> None:
    from rich.table import Table

    from fti_qdrant.cli.console import print_tables
    from fti_qdrant.cli.evaluate.tables import percent

    a, b = runs
    title = f"A = {a.composer} of {a.path}, B = {b.composer} of {b.path}; in percent"
    columns = ("queries", "measure", "A", "B", "B - A", "95 % interval", "significant")
    table = Table(*columns, title=as_text(title))
    for one in differences:
        table.add_row(
            as_text(one.group),
            as_text(one.measure),
            percent(one.a),
            percent(one.b),
            f"{100 * (one.b - one.a):+.2f}",
            f"{100 * one.low:+.2f} to {100 * one.high:+.2f}",
            "yes" if one.significant else "no",
        )
    print_tables([table])
    for run in runs:
        for note in run.metrics.notes:
            print_lines(f"note: {run.path} is not comparable with published figures: {note}")
