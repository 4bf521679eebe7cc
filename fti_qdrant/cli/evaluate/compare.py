"""``fti-eval compare``: is the difference between two runs more than luck?"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.evaluate.options import json_option

if TYPE_CHECKING:
    from fti_qdrant.benchmarks.compare import Difference, Side

EPILOG = """\b
Examples:
  fti-eval compare eval/a/metrics.json eval/b/metrics.json
  fti-eval compare eval/a eval/a --composer fti --against subject
"""


@click.command(epilog=EPILOG)
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--composer", help="Of both runs.  [default: each run's first]")
@click.option("--against", help="Composer of B, where it is another one.")
@click.option("--resamples", type=click.IntRange(100), default=10_000, show_default=True)
@json_option
@one_line_errors
def compare(
    a: Path, b: Path, composer: str | None, against: str | None, resamples: int, as_json: bool
) -> None:
    """Compare two runs over the same queries, with 95 % paired bootstrap intervals of B - A."""
    from fti_qdrant.benchmarks.compare import Side
    from fti_qdrant.benchmarks.compare import compare as differences_of

    one, other = Side.read(a, composer), Side.read(b, against or composer)
    differences = differences_of(one, other, resamples)
    if as_json:
        told = [{**asdict(one), "significant": one.significant} for one in differences]
        notes = {str(side.path): side.metrics.notes for side in (one, other)}
        click.echo(json.dumps({"resamples": resamples, "notes": notes, "differences": told}))
        return
    _print(one, other, differences)


def _print(a: Side, b: Side, differences: list[Difference]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from fti_qdrant.cli.evaluate.tables import percent, show

    title = f"A = {a.composer} of {a.path}, B = {b.composer} of {b.path}; in percent"
    title = escape(title)
    columns = ("queries", "measure", "A", "B", "B - A", "95 % interval", "more than luck")
    table = Table(*columns, title=title)
    for one in differences:
        table.add_row(
            one.group,
            one.measure,
            percent(one.a),
            percent(one.b),
            f"{100 * (one.b - one.a):+.2f}",
            f"{100 * one.low:+.2f} to {100 * one.high:+.2f}",
            "yes" if one.significant else "no",
        )
    show([table])
    for side in (a, b):
        for note in side.metrics.notes:
            click.echo(f"note: {side.path} is not comparable with published figures: {note}")
