"""Arguments and options that several commands of fti-eval take."""

from __future__ import annotations

from pathlib import Path

import click

from fti_qdrant.errors import BadBenchmark


class BenchmarkName(click.ParamType):
    """The name of a built-in benchmark, or of one that an installed package brings."""

    name = "name"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        from fti_qdrant.benchmarks.registry import benchmark_names, find_benchmark

        if value not in benchmark_names():
            self.fail(f"{value!r} is not one of {', '.join(benchmark_names())}", param, ctx)
        try:
            return find_benchmark(value).name
        except BadBenchmark as error:
            self.fail(str(error), param, ctx)


benchmark_argument = click.argument("name", metavar="NAME", type=BenchmarkName())
split_option = click.option("--split", help="[default: the benchmark's first, val or heldout]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


def root_of(name: str, root: Path | None) -> Path:
    """The folder of a benchmark's data. Raises UsageError where it is required and missing."""
    from fti_qdrant.benchmarks.registry import find_benchmark

    found = root or find_benchmark(name).own_root
    if found is None:
        raise click.UsageError(f"{name} needs --root DIR, the folder it was downloaded to")
    return found
