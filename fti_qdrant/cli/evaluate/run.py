"""``fti-eval run``: images -> gallery -> ranked queries -> figures, files and a report."""

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
from fti_qdrant.cli.gallery_options import GivenPlace
from fti_qdrant.cli.ingest import run_ingest
from fti_qdrant.cli.logging_options import logging_options
from fti_qdrant.cli.model_options import MODEL_NAMES, backend_option, preprocess_option
from fti_qdrant.cli.user_text import print_lines
from fti_qdrant.cli.worker_options import worker_options

if TYPE_CHECKING:
    from fti_ingest.engine.choose import EngineChoice
    from fti_ingest.stages.embed import ModelChoice
    from fti_qdrant.benchmarks.base import Benchmark
    from fti_qdrant.benchmarks.gallery_contents import GalleryContents
    from fti_qdrant.benchmarks.rank import Ranker
    from fti_qdrant.benchmarks.run import FinishedRun
    from fti_qdrant.composers.composer import Composer
    from fti_qdrant.gallery.location import GalleryLocation
    from fti_qdrant.model.openvino_backend import Backend

EPILOG = """\b
Examples:
  fti-eval run emoji
  fti-eval run fashioniq --root data/fashioniq --model ViT-B-32/laion2b_s34b_b79k
  fti-eval run cirr --root data/cirr --split test1 --model ViT-L-14-quickgelu/openai \\
      --inverter runs/first/inverter
  fti-eval run circo --root data/circo --url http://localhost:6333 --index
  fti-eval run genecis --root data/genecis --split change_object

\b
Writes to --out: metrics.json, per_query.parquet, report.html, and submission/, the ranked lists
in the format that the benchmark's server takes. A run that was stopped continues where it was.
"""


@click.command("run", epilog=EPILOG)
@benchmark_argument
@click.option("--root", type=click.Path(path_type=Path), help="Folder of the benchmark's data.")
@split_option
@click.option(
    "--model",
    default="mini",
    show_default=True,
    help=MODEL_NAMES,
)
@preprocess_option
@backend_option
@click.option(
    "--inverter",
    help="fti4cir, a folder, a checkpoint file or ORG/REPO on the hub; mini has its own.",
)
@click.option(
    "--composer",
    "composers",
    help="Composers to measure, comma-separated.  [default: all that the model can do]",
)
@click.option(
    "--gallery",
    type=click.Path(path_type=Path),
    help="Folder of an embedded gallery.  [default: OUT/gallery]",
)
@click.option("--url", help="URL of a Qdrant server, such as http://localhost:6333.")
@click.option("--collection", help="Collection on the server.  [default: NAME-SPLIT]")
@click.option(
    "--api-key", envvar="QDRANT_API_KEY", help="API key of the server.  [env: QDRANT_API_KEY]"
)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="Folder for the results.  [default: eval/NAME-SPLIT]",
)
@click.option(
    "--index", is_flag=True, help="Also measure approximate search, and its loss against exact."
)
@click.option(
    "--allow-missing",
    is_flag=True,
    help="Compute figures without missing images; they are marked as not comparable.",
)
@click.option("--device", help="cuda, mps or cpu.  [default: the best available]")
@worker_options
@logging_options
@one_line_errors
def run_command(
    name: str,
    root: Path | None,
    split: str | None,
    model: str,
    preprocess: str | None,
    backend: Backend,
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
    engine: EngineChoice,
) -> None:
    """Measure composers on benchmark NAME, with its gallery in Qdrant, by the official protocol."""
    from fti_ingest.stages.embed import ModelChoice
    from fti_qdrant.benchmarks.rank import Ranker
    from fti_qdrant.benchmarks.rankings import EXACT, INDEX
    from fti_qdrant.benchmarks.registry import find_benchmark, open_benchmark
    from fti_qdrant.model.precision import exact_precision

    need("matplotlib", "eval")
    need("scipy", "eval")
    engine.check()
    if url is not None and gallery is not None:
        raise click.UsageError("pass either --gallery DIR or --url URL")
    if url is None and collection is not None:
        raise click.UsageError("--collection needs --url URL")
    out = out or Path("eval") / f"{name}-{split or find_benchmark(name).splits[0]}"
    benchmark = open_benchmark(name, root_of(name, root), split)
    print_lines(f"{name} {benchmark.split}: {len(benchmark.queries):,} queries")
    precision = precision or exact_precision(device)
    choice = ModelChoice(model, inverter, precision, device, preprocess, backend).anywhere()
    composer = choice.load()
    names = _composer_names(composers, composer)
    place = GivenPlace(
        None if url else gallery or out / "gallery",
        url,
        (collection or f"{name}-{benchmark.split}") if url else None,
        api_key,
    )
    location = place.location()
    notes, contents = _fill_gallery(benchmark, location, choice, engine, out, allow_missing)
    with closing(location.open()) as opened:
        searches = (EXACT, INDEX) if index else (EXACT,)
        ranker = Ranker(benchmark, composer, opened, contents, names, searches, allow_missing)
        finished = _rank(ranker, out, notes)
    _print(benchmark, finished)
    _report(ranker, finished, out)


def _composer_names(chosen: str | None, composer: Composer) -> tuple[str, ...]:
    """Raises BadQuery for an unknown composer, or one that needs an inverter."""
    from fti_qdrant.composers.registry import all_composers, composer_names, find_composer
    from fti_qdrant.errors import BadQuery

    has_inverter = composer.inverter is not None
    if chosen is None:
        found = all_composers()
        return tuple(one.name for one in found if has_inverter or not one.needs_inverter)
    names = tuple(dict.fromkeys(one.strip() for one in chosen.split(",") if one.strip()))
    available = ", ".join(composer_names(inverter=has_inverter))
    if not names:
        raise BadQuery(f"--composer {chosen!r} names no composer; use some of {available}")
    for one in names:
        if find_composer(one).needs_inverter and not has_inverter:
            raise BadQuery(
                f"composer {one!r} needs --inverter, trained for this model; without one, use some "
                f"of {available}"
            )
    return names


def _fill_gallery(
    benchmark: Benchmark,
    location: GalleryLocation,
    choice: ModelChoice,
    engine: EngineChoice,
    out: Path,
    allow_missing: bool,
) -> tuple[list[str], GalleryContents]:
    """Ingests the images that the gallery does not hold yet.

    Returns why figures will not be comparable, and what the gallery holds now. Raises BadBenchmark
    where images are missing and that is not allowed.
    """
    from fti_ingest.run.ingest import IngestJob
    from fti_ingest.run.output_files import OutputFiles
    from fti_qdrant.benchmarks.gallery_contents import (
        MANIFEST,
        is_complete,
        missing_images_error,
        survey,
        write_manifest,
    )
    from fti_qdrant.benchmarks.run import writing

    fingerprint = choice.load().backbone.fingerprint
    with writing(out):
        _draw(benchmark)
        without_file = write_manifest(benchmark, out / MANIFEST)
    if without_file and not allow_missing:
        raise missing_images_error(without_file, benchmark)
    rejects = out / "rejects.jsonl"
    if not is_complete(location, benchmark, fingerprint):
        files = OutputFiles(rejects=rejects, report=out / "ingest-report.json")
        source = str(out / MANIFEST)
        run_ingest(IngestJob(source, location, choice, engine=engine, files=files))
    with closing(location.open()) as gallery:
        gallery.spec.check_model(fingerprint, gallery.name)
        contents = survey(gallery, benchmark)
    missing = contents.missing
    if missing and not allow_missing:
        raise missing_images_error(
            missing, benchmark, f"; unreadable files are listed in {rejects}"
        )
    notes = benchmark.deviations()
    if without_file:
        notes.append(f"{without_file.count:,} image files are missing: {without_file}")
    if missing:
        notes.append(f"{missing.count:,} gallery images are missing: {missing}")
    return notes, contents


def _draw(benchmark: Benchmark) -> None:
    from fti_qdrant.cli.progress import step_progress

    with step_progress(transient=True) as progress:
        task = progress.add_task("images", total=None)
        benchmark.prepare(lambda done, total: progress.update(task, completed=done, total=total))


def _rank(ranker: Ranker, out: Path, notes: list[str]) -> FinishedRun:
    from fti_qdrant.benchmarks.rankings import INDEX
    from fti_qdrant.benchmarks.run import finish_run, rank_all
    from fti_qdrant.cli.progress import step_progress

    if INDEX in ranker.searches:
        indexed, held = ranker.gallery.build_index(), ranker.gallery.count()
        print_lines(f"index: {indexed:,} of {held:,} vectors are indexed; Qdrant scans the others")
    with step_progress() as progress:
        task = progress.add_task("queries", total=len(ranker.benchmark.queries))
        rank_all(ranker, out, lambda count: progress.update(task, advance=count))
    return finish_run(ranker, out, notes, command_line(sys.argv[1:]))


def command_line(arguments: list[str]) -> str:
    """The command as it was typed, without the server's API key."""
    words = list(arguments)
    for position, word in enumerate(words):
        if word == "--api-key" and position + 1 < len(words):
            words[position + 1] = "..."
        elif word.startswith("--api-key="):
            words[position] = "--api-key=..."
    return shlex.join(["fti-eval", *words])


def _print(benchmark: Benchmark, finished: FinishedRun) -> None:
    from fti_qdrant.benchmarks.published import published_for
    from fti_qdrant.cli.console import print_tables
    from fti_qdrant.cli.evaluate.tables import (
        aspects_table,
        figures_table,
        index_loss_table,
        reliability_table,
        set_figures_table,
    )

    metrics = finished.metrics
    whole, figures, comparable = metrics.whole, metrics.figures, metrics.comparable
    if figures:
        counts = {group: sum(map(len, rows)) for group, rows in benchmark.groups().items()}
        published = published_for(benchmark.name)
        print_tables(
            [
                figures_table(metrics.benchmark, metrics.split, whole, figures, comparable),
                *(
                    aspects_table(one, whole, figures, counts, comparable, published)
                    for one in benchmark.headlines
                ),
                set_figures_table(metrics.set_figures, comparable),
                index_loss_table(metrics),
                reliability_table(metrics.calibration),
            ]
        )
        for composer, why in metrics.not_calibrated.items():
            print_lines(f"calibration of {composer}: not measured: {why}")
    else:
        print_lines(f"no figures: {benchmark.no_truth}")
    for note in metrics.notes:
        print_lines(f"not comparable with published figures: {note}")
    if benchmark.unchecked:
        print_lines(f"note: {benchmark.unchecked}")
    for path in finished.files:
        print_lines(f"wrote {path}")


def _report(ranker: Ranker, finished: FinishedRun, out: Path) -> None:
    from fti_qdrant.benchmarks.results import REPORT
    from fti_qdrant.report.evaluation import write_report

    write_report(out / REPORT, ranker.benchmark, ranker.composer, finished)
    print_lines(f"open {out / REPORT} to see queries with their results")
