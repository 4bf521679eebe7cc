"""``fti-eval score``: the official measures of a ranked-list file that any system wrote."""

from __future__ import annotations

import json
from pathlib import Path

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.evaluate.options import (
    benchmark_argument,
    json_option,
    root_of,
    split_option,
)

EPILOG = """\b
Forms of the file:
  circo      {"0": [image id, ...], ...}                 its submission form
  cirr       {"pairid": [name, ...], ...}                "version" and "metric" may stand beside
  fashioniq  {"dress": [[name, ...], ...], "shirt": ..., "toptee": ...}   in the captions' order
  emoji      {"query id": [key, ...], ...}

\b
Examples:
  fti-eval score circo --annotations data/circo --split val --predictions lists.json
  fti-eval score cirr --annotations data/cirr --predictions recall.json --json
"""


@click.command(epilog=EPILOG)
@benchmark_argument
@click.option(
    "--annotations", type=click.Path(path_type=Path), help="Folder of the annotation files."
)
@split_option
@click.option(
    "--predictions", type=click.Path(path_type=Path), required=True, help="The ranked lists, JSON."
)
@json_option
@one_line_errors
def score(
    name: str, annotations: Path | None, split: str | None, predictions: Path, as_json: bool
) -> None:
    """Score ranked lists by the official protocol; needs annotations, no images and no model."""
    from fti_qdrant.benchmarks.annotations import read_predictions_file
    from fti_qdrant.benchmarks.base import summarize
    from fti_qdrant.benchmarks.predictions import short_lists
    from fti_qdrant.benchmarks.registry import open_benchmark
    from fti_qdrant.cli.evaluate.tables import aspects_table, figures_table, show

    benchmark = open_benchmark(name, root_of(name, annotations), split)
    benchmark.require_truth()
    ranked = benchmark.read_predictions(read_predictions_file(predictions))
    groups = benchmark.groups()
    figures = summarize(benchmark.measure(ranked), groups)
    notes = benchmark.annotation_deviations()
    told = [*ranked.notes, *short_lists(ranked)]
    if as_json:
        content = {
            "benchmark": benchmark.name,
            "split": benchmark.split,
            "protocol": benchmark.protocol,
            "comparable": not notes,
            "notes": [*notes, *told],
            "queries": len(benchmark.queries),
            "figures": figures,
        }
        click.echo(json.dumps(content, ensure_ascii=False))
        return
    counts = {group: sum(map(len, strata)) for group, strata in groups.items()}
    by_file = {predictions.name: figures}
    whole = benchmark.whole
    show(
        [
            figures_table(name, benchmark.split, whole, by_file, comparable=not notes),
            *(
                aspects_table(one, whole, by_file, counts, comparable=not notes)
                for one in benchmark.headlines
            ),
        ]
    )
    for note in (*notes, *told):
        click.echo(f"note: {note}")
