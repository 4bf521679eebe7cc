"""``fti-eval run``: pictures -> gallery -> ranked queries -> figures, files and a report."""

from __future__ import annotations

import shlex
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.evaluate.options import benchmark_argument, root_of, split_option
from fti_qdrant.cli.extras import need
from fti_qdrant.cli.gallery_options import location_of
from fti_qdrant.cli.ingest_process import run_ingest

if TYPE_CHECKING:
    from fti_qdrant.benchmarks.base import Benchmark
    from fti_qdrant.benchmarks.gallery_contents import Contents
    from fti_qdrant.benchmarks.rank import Ranker
    from fti_qdrant.benchmarks.run import Measured
    from fti_qdrant.composers.composer import Composer
    from fti_qdrant.gallery.location import GalleryLocation

WITHOUT_INVERTER = ("sum", "image", "text")
EPILOG = """\b
Examples:
  fti-eval run emoji
  fti-eval run fashioniq --root data/fashioniq --model ViT-B-32/laion2b_s34b_b79k
  fti-eval run cirr --root data/cirr --split test1 --model ViT-L-14-quickgelu/openai \\
      --inverter runs/first/inverter
  fti-eval run circo --root data/circo --url http://localhost:6333 --index

\b
Leaves in --out: metrics.json, per_query.parquet, report.html, and submission/, the ranked lists
in the form that the benchmark's server takes. Killed runs go on where they were.
"""


@click.command(epilog=EPILOG)
@benchmark_argument
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the benchmark's data.")
@split_option
@click.option(
    "--model", default="mini", show_default=True, help="mini, ARCH/PRETRAINED, hf-hub:, local-dir:"
)
@click.option("--inverter", help="Folder or hub name of an inverter; mini brings its own.")
@click.option("--composer", "composers", help="Comma-separated.  [default: all that the model can]")
@click.option(
    "--gallery", type=click.Path(path_type=Path), help="Embedded gallery.  [default: OUT/gallery]"
)
@click.option("--url", help="Qdrant server, such as http://localhost:6333.")
@click.option("--collection", help="On the server.  [default: NAME-SPLIT]")
@click.option("--api-key", envvar="QDRANT_API_KEY", help="Server's key. [env: QDRANT_API_KEY]")
@click.option("--out", type=click.Path(path_type=Path), help="[default: eval/NAME-SPLIT]")
@click.option("--index", is_flag=True, help="Measure approximate search, and its loss to exact.")
@click.option(
    "--allow-missing", is_flag=True, help="Compute without missing images: not comparable."
)
@click.option("--device", help="cuda, mps or cpu.  [default: the best there is]")
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Default: by device."
)
@click.option("--workers", type=click.IntRange(1), default=1, show_default=True, help="For ingest.")
@one_line_errors
def run(
    name: str,
    root: Path | None,
    split: str | None,
    model: str,
    inverter: str | None,
    composers: str | None,
    gallery: Path | None,
    url: str | None,
    collection: str | None,
    api_key: str | None,
    out: Path | None,
    index: bool,
    allow_missing: bool,
    device: str | None,
    precision: str | None,
    workers: int,
) -> None:
    """Measure composers on benchmark NAME, its gallery in Qdrant, by the official protocol."""
    from fti_qdrant.benchmarks.rank import Ranker
    from fti_qdrant.benchmarks.rankings import EXACT, INDEX
    from fti_qdrant.benchmarks.registry import BENCHMARKS, open_benchmark
    from fti_qdrant.composers.composer import Composer

    need("matplotlib", "eval")
    if url is not None and gallery is not None:
        raise click.UsageError("pass either --gallery DIR or --url URL")
    if url is None and collection is not None:
        raise click.UsageError("--collection needs --url URL")
    out = out or Path("eval") / f"{name}-{split or BENCHMARKS[name].splits[0]}"
    benchmark = open_benchmark(name, root_of(name, root), split)
    click.echo(f"{name} {benchmark.split}: {len(benchmark.queries):,} queries")
    composer = Composer.load(model, inverter, device=device, precision=precision)
    methods = _methods(composers, composer)
    location = location_of(
        None if url else gallery or out / "gallery",
        url,
        (collection or f"{name}-{benchmark.split}") if url else None,
        api_key,
    )
    options = ["--model", model, "--workers", str(workers)]
    options += ["--precision", precision] if precision else []
    notes, contents = _fill(benchmark, location, composer, out, options, allow_missing, api_key)
    with closing(location.open()) as opened:
        searches = (EXACT, INDEX) if index else (EXACT,)
        ranker = Ranker(benchmark, composer, opened, contents, methods, searches, allow_missing)
        measured = _rank(ranker, out, notes)
    _tell(benchmark, measured)
    _report(ranker, measured, out)


def _methods(chosen: str | None, composer: Composer) -> tuple[str, ...]:
    """Raises BadQuery for a composer that there is not, or that needs an inverter."""
    from fti_qdrant.composers.registry import COMPOSERS, composer_names, find_composer
    from fti_qdrant.errors import BadQuery

    able = composer.inverter is not None
    if chosen is None:
        inverting = (name for name, one in COMPOSERS.items() if one.needs_inverter)
        return (*inverting, *WITHOUT_INVERTER) if able else WITHOUT_INVERTER
    methods = tuple(dict.fromkeys(one.strip() for one in chosen.split(",") if one.strip()))
    for one in methods:
        if one not in COMPOSERS:
            raise BadQuery(f"unknown composer {one!r}; use some of {', '.join(composer_names())}")
        if find_composer(one).needs_inverter and not able:
            raise BadQuery(
                f"composer {one!r} needs --inverter, one that was trained for this model"
            )
    if not methods:
        raise BadQuery("--composer names none")
    return methods


def _fill(
    benchmark: Benchmark,
    location: GalleryLocation,
    composer: Composer,
    out: Path,
    options: list[str],
    allow_missing: bool,
    api_key: str | None,
) -> tuple[list[str], Contents]:
    """Ingests what the gallery lacks; returns why figures will not be comparable.

    Raises BadBenchmark where images are missing and that is not allowed.
    """
    from rich.progress import Progress

    from fti_qdrant.benchmarks.gallery_contents import (
        MANIFEST,
        is_complete,
        refusal,
        survey,
        write_manifest,
    )
    from fti_qdrant.benchmarks.run import writing

    with writing(out), Progress(transient=True) as progress:
        task = progress.add_task("pictures")
        benchmark.prepare(lambda done, total: progress.update(task, completed=done, total=total))
        missing = write_manifest(benchmark, out / MANIFEST)
    if missing and not allow_missing:
        raise refusal(missing, benchmark)
    rejects = out / "rejects.jsonl"
    if not is_complete(location, benchmark, composer.backbone.fingerprint):
        source = [str(out / MANIFEST), *location.options(), "--rejects", str(rejects)]
        run_ingest([*source, *options], api_key)
    with closing(location.open()) as gallery:
        gallery.spec.check_model(composer.backbone.fingerprint, gallery.name)
        contents = survey(gallery, benchmark)
    absent = contents.absent
    if absent and not allow_missing:
        raise refusal(absent, benchmark, f"; the unreadable ones stand in {rejects}")
    notes = benchmark.deviations()
    if missing:
        notes.append(f"{missing.count:,} pictures are missing: {missing}")
    if absent:
        notes.append(f"{absent.count:,} gallery images are missing: {absent}")
    return notes, contents


def _rank(ranker: Ranker, out: Path, notes: list[str]) -> Measured:
    from fti_qdrant.benchmarks.rankings import INDEX
    from fti_qdrant.benchmarks.run import conclude, rank_all
    from fti_qdrant.cli.progress import step_progress

    if INDEX in ranker.searches:
        indexed, held = ranker.gallery.build_index(), ranker.gallery.count()
        click.echo(f"index: {indexed:,} of {held:,} vectors are in it; Qdrant scans the others")
    with step_progress() as progress:
        task = progress.add_task("queries", total=len(ranker.benchmark.queries))
        rank_all(ranker, out, lambda count: progress.update(task, advance=count))
    return conclude(ranker, out, notes, _command())


def _command() -> str:
    """As it was typed, to be typed again; without the server's key."""
    words = list(sys.argv[1:])
    for location, word in enumerate(words):
        if word == "--api-key" and location + 1 < len(words):
            words[location + 1] = "..."
        elif word.startswith("--api-key="):
            words[location] = "--api-key=..."
    return shlex.join(["fti-eval", *words])


def _tell(benchmark: Benchmark, measured: Measured) -> None:
    from fti_qdrant.cli.evaluate.tables import aspects_table, figures_table, loss_table, show

    metrics = measured.metrics
    if metrics.figures:
        whole, figures = metrics.whole, metrics.figures
        counts = {group: sum(map(len, rows)) for group, rows in benchmark.groups().items()}
        show(
            [
                figures_table(metrics.benchmark, metrics.split, whole, figures, metrics.comparable),
                *(
                    aspects_table(one, whole, figures, counts, metrics.comparable)
                    for one in benchmark.headlines
                ),
                loss_table(metrics),
            ]
        )
    else:
        click.echo(f"{metrics.benchmark} {metrics.split}: the answers are not public, no measures")
    for note in metrics.notes:
        click.echo(f"not comparable with published figures: {note}")
    for path in measured.files:
        click.echo(f"wrote {path}")


def _report(ranker: Ranker, measured: Measured, out: Path) -> None:
    from fti_qdrant.benchmarks.results import REPORT
    from fti_qdrant.report.evaluation import write_report

    write_report(out / REPORT, ranker.benchmark, ranker.composer, measured)
    click.echo(f"open {out / REPORT} to look at queries and their hits")
