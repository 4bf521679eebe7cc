"""``fti-eval doctor``: looks a benchmark's folder through before any work."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.evaluate.options import (
    benchmark_argument,
    json_option,
    root_of,
    split_option,
)

if TYPE_CHECKING:
    from fti_qdrant.benchmarks.base import Benchmark
    from fti_qdrant.benchmarks.doctor import Diagnosis

SHOWN = 20
EPILOG = """\b
Examples:
  fti-eval doctor cirr --root data/cirr
  fti-eval doctor circo --root data/circo --quick
"""


@click.command(epilog=EPILOG)
@benchmark_argument
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the benchmark's data.")
@split_option
@click.option("--quick", is_flag=True, help="Do not read the pictures, only look for them.")
@json_option
@one_line_errors
def doctor(name: str, root: Path | None, split: str | None, quick: bool, as_json: bool) -> None:
    """Check a data folder: what is missing or unreadable, how many queries that affects.

    Exits with 2 where figures would not be comparable with published ones.
    """
    from fti_qdrant.benchmarks.doctor import examine
    from fti_qdrant.benchmarks.registry import open_benchmark
    from fti_qdrant.cli.progress import step_progress

    benchmark = open_benchmark(name, root_of(name, root), split)
    total = sum(1 for _ in benchmark.gallery())
    with step_progress() as progress:
        task = progress.add_task("pictures", total=total)
        diagnosis = examine(
            benchmark, decode=not quick, advance=lambda count: progress.update(task, advance=count)
        )
    if as_json:
        click.echo(json.dumps(_as_dict(benchmark, diagnosis), ensure_ascii=False))
    else:
        _print(benchmark, diagnosis)
    if not diagnosis.healthy:
        sys.exit(2)


def _as_dict(benchmark: Benchmark, diagnosis: Diagnosis) -> dict[str, object]:
    return {
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "healthy": diagnosis.healthy,
        "queries": len(benchmark.queries),
        "images": diagnosis.images,
        "affected_queries": sorted(diagnosis.affected),
        "deviations": diagnosis.deviations,
        "findings": [
            {
                "image": one.image,
                "file": one.file,
                "reason": one.reason,
                "queries": list(one.queries),
            }
            for one in diagnosis.findings
        ],
        "download": None if diagnosis.healthy else benchmark.download,
    }


def _print(benchmark: Benchmark, diagnosis: Diagnosis) -> None:
    from rich.markup import escape
    from rich.table import Table

    from fti_qdrant.cli.evaluate.tables import show

    click.echo(
        f"{benchmark.name} {benchmark.split} in {benchmark.root}: {len(benchmark.queries):,} "
        f"queries, {diagnosis.images:,} gallery images"
    )
    for deviation in diagnosis.deviations:
        click.echo(f"not the official annotations: {deviation}")
    if diagnosis.findings:
        table = Table("what is wrong", "queries affected")
        table.add_column("image", overflow="fold")
        table.add_column("file", overflow="fold")
        worst = sorted(diagnosis.findings, key=lambda one: -len(one.queries))
        for one in worst[:SHOWN]:
            cells = (one.reason, str(len(one.queries)), one.image, one.file)
            table.add_row(*map(escape, cells))
        show([table])
        if len(worst) > SHOWN:
            click.echo(f"and {len(worst) - SHOWN:,} more; --json lists all")
    if diagnosis.healthy:
        click.echo("all is there; figures will be comparable")
        return
    click.echo(
        f"{len(diagnosis.findings):,} pictures missing or unreadable, "
        f"{len(diagnosis.affected):,} queries affected"
    )
    click.echo(f"what to do: {benchmark.download}")
