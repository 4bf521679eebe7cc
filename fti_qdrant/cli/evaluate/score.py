"""``fti-eval score``: the official measures of a ranked-list file from any system."""

from __future__ import annotations

from collections.abc import Sequence
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
from fti_qdrant.cli.logging_options import logging_options
from fti_qdrant.cli.user_text import print_json, print_lines
from fti_qdrant.errors import BadPredictions

if TYPE_CHECKING:
    from fti_qdrant.benchmarks.base import Benchmark
    from fti_qdrant.benchmarks.results import Figures

EPILOG = """\b
Formats of the file:
  circo      {"0": [image id, ...], ...}              the submission format of CIRCO
  cirr       {"pairid": [name, ...], ...}             may also hold "version" and "metric"
  fashioniq  {"dress": [[name, ...], ...], "shirt": ..., "toptee": ...}   in caption file order
  emoji      {"query id": [key, ...], ...}
  icir       {"0": [database image, ...], ...}        queries numbered from 0, whole rankings
  genecis    {"task/0": [image, ...], ...}            image as coco-ID or vg-ID-x-y-width-height
  pinpoint   {"00001": {"retrieved_items": [signature, ...]}, ...}

\b
Examples:
  fti-eval score circo --annotations data/circo --split val --predictions lists.json
  fti-eval score cirr --annotations data/cirr --predictions recall.json --json
  fti-eval score cirr --annotations data/cirr --split test1 --predictions recall.json

The right answers of test splits are not public. For those, the lists are checked only: by query
and image, and for what the benchmark's server would refuse. Exits with 2 where it would.
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
@logging_options
@one_line_errors(after_stop="nothing was changed")
def score(
    name: str, annotations: Path | None, split: str | None, predictions: Path, as_json: bool
) -> None:
    """Score ranked lists by the official protocol; needs annotations, no images and no model."""
    from fti_qdrant.benchmarks.annotations import read_predictions_file
    from fti_qdrant.benchmarks.base import summarize
    from fti_qdrant.benchmarks.predictions import short_lists
    from fti_qdrant.benchmarks.registry import open_benchmark

    benchmark = open_benchmark(name, root_of(name, annotations), split)
    data = read_predictions_file(predictions)
    ranked = benchmark.read_predictions(data)
    deviations = benchmark.annotation_deviations()
    notes = [*deviations, *ranked.notes, *short_lists(ranked, benchmark)]
    if benchmark.unchecked:
        notes.append(benchmark.unchecked)
    figures: Figures = {}
    set_figures: dict[str, float] = {}
    faults: list[str] = []
    if benchmark.has_truth:
        measured = benchmark.measure(ranked)
        figures = summarize(measured, benchmark.groups())
        set_figures = benchmark.set_figures(measured)
    else:
        faults = benchmark.submission_faults(data, ranked)
        notes.append(f"the lists were checked, not scored: {benchmark.no_truth}")
    if as_json:
        print_json(
            {
                "benchmark": benchmark.name,
                "split": benchmark.split,
                "protocol": benchmark.protocol,
                "comparable": not deviations,
                "notes": notes,
                "queries": len(benchmark.queries),
                "figures": figures,
                "set_figures": set_figures,
                "faults": faults,
            }
        )
    else:
        if figures:
            _print_figures(benchmark, predictions.name, figures, set_figures, not deviations)
        elif not faults:
            print_lines(f"{predictions}: {len(benchmark.queries):,} valid ranked lists")
        _print_notes(notes)
    if faults:
        raise BadPredictions(f"the server would refuse {str(predictions)!r}: {'; '.join(faults)}")


def _print_figures(
    benchmark: Benchmark,
    label: str,
    figures: Figures,
    set_figures: dict[str, float],
    comparable: bool,
) -> None:
    from fti_qdrant.benchmarks.published import published_for
    from fti_qdrant.cli.console import print_tables
    from fti_qdrant.cli.evaluate.tables import aspects_table, figures_table, set_figures_table

    published = published_for(benchmark.name)
    counts = {group: sum(map(len, strata)) for group, strata in benchmark.groups().items()}
    rows, whole = {label: figures}, benchmark.whole
    print_tables(
        [
            figures_table(benchmark.name, benchmark.split, whole, rows, comparable),
            *(
                aspects_table(one, whole, rows, counts, comparable, published)
                for one in benchmark.headlines
            ),
            set_figures_table({label: set_figures} if set_figures else {}, comparable),
        ]
    )


def _print_notes(notes: Sequence[str]) -> None:
    for note in notes:
        print_lines(f"note: {note}")
