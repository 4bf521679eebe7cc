"""``fti-eval doctor``: checks a benchmark's data folder before any work."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.evaluate.options import (
    benchmark_argument,
    json_option,
    root_of,
    split_option,
)
from fti_qdrant.cli.logging_options import logging_options
from fti_qdrant.cli.user_text import as_text, print_json, print_lines

if TYPE_CHECKING:
    from rich.table import Table

    from fti_qdrant.benchmarks.base import Benchmark
    from fti_qdrant.benchmarks.doctor import Diagnosis, Finding

SHOWN = 20
"""Findings in the table; --json lists all of them."""

EPILOG = """\b
Examples:
  fti-eval doctor cirr --root data/cirr
  fti-eval doctor circo --root data/circo --quick
  fti-eval doctor fashioniq --root data/fashioniq --json
"""


@click.command(epilog=EPILOG)
@benchmark_argument
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the benchmark's data.")
@split_option
@click.option("--quick", is_flag=True, help="Check that the images exist, without reading them.")
@json_option
@logging_options
@one_line_errors(after_stop="nothing was changed")
def doctor(name: str, root: Path | None, split: str | None, quick: bool, as_json: bool) -> None:
    """Check a data folder: what is missing or unreadable, and how many queries that affects.

    Exits with 2 if figures would not be comparable with published ones.
    """
    from fti_qdrant.benchmarks.doctor import examine
    from fti_qdrant.benchmarks.registry import open_benchmark
    from fti_qdrant.cli.progress import step_progress

    benchmark = open_benchmark(name, root_of(name, root), split)
    total = sum(1 for _ in benchmark.files())
    with step_progress() as progress:
        task = progress.add_task("images", total=total)
        diagnosis = examine(
            benchmark, decode=not quick, advance=lambda count: progress.update(task, advance=count)
        )
    if as_json:
        print_json(_as_dict(benchmark, diagnosis))
    else:
        _print(benchmark, diagnosis)
    if not diagnosis.healthy:
        sys.exit(2)


def _as_dict(benchmark: Benchmark, diagnosis: Diagnosis) -> dict[str, Any]:
    return {
        "benchmark": benchmark.name,
        "split": benchmark.split,
        "healthy": diagnosis.healthy,
        "queries": len(benchmark.queries),
        "images": diagnosis.images,
        "affected_queries": sorted(diagnosis.affected),
        "deviations": diagnosis.deviations,
        "unchecked": benchmark.unchecked,
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
    from fti_qdrant.cli.console import print_tables

    print_lines(
        f"{benchmark.name} {benchmark.split} in {benchmark.root}: "
        f"{len(benchmark.queries):,} queries, {diagnosis.images:,} images"
    )
    for deviation in diagnosis.deviations:
        print_lines(f"not the official annotations: {deviation}")
    if benchmark.unchecked:
        print_lines(f"note: {benchmark.unchecked}")
    if diagnosis.findings:
        print_tables([_findings_table(diagnosis.findings)])
        if len(diagnosis.findings) > SHOWN:
            print_lines(f"and {len(diagnosis.findings) - SHOWN:,} more; --json lists all")
    if diagnosis.healthy:
        print_lines("all files are there; figures will be comparable")
        return
    print_lines(
        f"{len(diagnosis.findings):,} images missing or unreadable, "
        f"{len(diagnosis.affected):,} queries affected"
    )
    print_lines(f"what to do: {benchmark.download}")


def _findings_table(findings: Sequence[Finding]) -> Table:
    """The findings that affect the most queries."""
    from rich.table import Table

    table = Table("problem", "queries affected")
    table.add_column("image", overflow="fold")
    table.add_column("file", overflow="fold")
    for one in sorted(findings, key=lambda one: -len(one.queries))[:SHOWN]:
        cells = (one.reason, str(len(one.queries)), one.image, one.file)
        table.add_row(*map(as_text, cells))
    return table
