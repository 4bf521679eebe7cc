"""``fti-ingest SOURCE``: pictures -> an embedded gallery or a server's collection."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

import click

from fti_ingest.cli.index_option import index_option
from fti_ingest.cli.output_options import output_options
from fti_ingest.cli.server_options import ServerChoice, server_options
from fti_ingest.cli.target_options import Target, target_options
from fti_ingest.cli.type_option import type_option
from fti_ingest.engine.choose import EngineChoice
from fti_ingest.run.output_files import OutputFiles
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.image_options import max_pixels_option
from fti_qdrant.cli.model_options import MODEL_NAMES, backend_option, preprocess_option
from fti_qdrant.cli.user_text import print_lines
from fti_qdrant.cli.worker_options import worker_options

if TYPE_CHECKING:
    from fti_ingest.run.ingest import IngestJob
    from fti_ingest.run.pipeline import Callbacks
    from fti_ingest.run.report import RunReport
    from fti_ingest.sources.column_types import Column
    from fti_ingest.sources.value_kinds import ColumnType
    from fti_qdrant.gallery import IndexType
    from fti_qdrant.model.openvino_backend import Backend

DEDUPE = ("keep", "mark", "skip")

EPILOG = """\b
Examples:
  fti-ingest photos/ --gallery shop --model ViT-B-32/laion2b_s34b_b79k
  fti-ingest 'photos/**/*.jpg' --gallery shop
  fti-ingest products.csv --gallery shop --prune --dry-run
  fti-ingest 's3://bucket/shards/*.tar' --gallery shop --dedupe skip --profile
  fti-ingest emoji.jsonl --gallery emoji --model mini --pseudo-words
  fti-ingest products.parquet --url http://localhost:6333 --collection shop \\
      --model ViT-L-14-quickgelu/openai
  fti-ingest s3://bucket/products.parquet --url https://qdrant:6333 --collection shop \\
      --workers 4 --bulk --quantization scalar --grpc --index brand:keyword,price:float
  fti-ingest photos/ --url http://localhost:6333 --alias shop --model ViT-L-14-quickgelu/openai

\b
A manifest (CSV, JSONL, Parquet) has a column "image" with paths relative to itself, or URIs. All
other columns become the payload, indexed by type, to filter by. A run says which type each column
has; --type decides. In tar and zip archives the .json beside an image is its payload. Files that
are no images are counted, and those that could be are listed with the bad ones.
"""


@click.command("run", epilog=EPILOG)
@click.argument("source")
@target_options(
    "A name that searches use: the run makes a gallery beside the one in use, and switches the "
    "name to it when it is complete. On a server Qdrant's alias, embedded the path of a link."
)
@click.option(
    "--model",
    help=f"{MODEL_NAMES} A new gallery needs it; an existing one knows its own.",
)
@preprocess_option
@backend_option
@click.option("--inverter", help="Folder or hub name of an inverter, for --pseudo-words.")
@click.option(
    "--pseudo-words",
    is_flag=True,
    help="Store pseudo-words in a new gallery: then queries by id read no picture.",
)
@index_option
@type_option
@worker_options
@server_options
@click.option("--allow-urls", is_flag=True, help="Fetch images that a manifest names by URL.")
@max_pixels_option
@click.option(
    "--dedupe",
    type=click.Choice(DEDUPE),
    help="Find duplicates, exact and near (the same picture re-encoded or resized): keep them, "
    "mark them in the payload (_fti.duplicate_of), or skip them.  [default: do not look for them]",
)
@click.option("--prune", is_flag=True, help="Afterwards, delete images no longer in the source.")
@click.option(
    "--prune-at-most",
    type=click.FloatRange(0, 1),
    default=0.1,
    show_default=True,
    metavar="SHARE",
    help="--prune stops before it deletes a larger share of the gallery.",
)
@click.option("--dry-run", is_flag=True, help="Say what would happen, and write nothing.")
@click.option("--profile", is_flag=True, help="Show where the time went, and what to change.")
@output_options
@click.option("--metrics-port", type=int, help="Serve Prometheus metrics at this port.")
@one_line_errors
def ingest(
    source: str,
    target: Target,
    model: str | None,
    preprocess: str | None,
    backend: Backend,
    inverter: str | None,
    pseudo_words: bool,
    indexes: Mapping[str, IndexType],
    types: Mapping[str, ColumnType],
    precision: str | None,
    engine: EngineChoice,
    server: ServerChoice,
    allow_urls: bool,
    max_pixels: int,
    dedupe: str | None,
    prune: bool,
    prune_at_most: float,
    dry_run: bool,
    profile: bool,
    files: OutputFiles,
    metrics_port: int | None,
) -> None:
    """Embed the images of SOURCE into a Qdrant gallery.

    SOURCE is a folder, a glob, a manifest, or .tar and .zip archives, here or at a URI such as
    s3://bucket/photos. Bad files are listed in rejects.jsonl and never stop the run. Running again
    embeds only what is new or changed; so does running again after a kill.
    """
    from fti_ingest.run.ingest import IngestJob
    from fti_ingest.stages.embed import ModelChoice

    target = target.on(server)
    job = IngestJob(
        source=source,
        location=target.location,
        model=ModelChoice(model or "", inverter, precision, None, preprocess, backend),
        pseudo_words=pseudo_words,
        indexes=indexes,
        types=types,
        engine=engine,
        storage=server.storage,
        bulk=server.bulk,
        allow_urls=allow_urls,
        max_pixels=max_pixels,
        dedupe=dedupe,  # type: ignore[arg-type]
        prune=prune,
        prune_at_most=prune_at_most,
        files=files,
        metrics_port=metrics_port,
    )
    behind = None
    if target.alias is not None:
        from fti_ingest.run.behind_alias import BehindAlias

        behind = BehindAlias.prepare(job, target.alias, target.chosen)
        job = behind.job
    if dry_run:
        _preview(job)
        return
    report = _ingest(job)
    _conclude(report)
    if behind is not None:
        print_lines(behind.finish(report, partial(print_lines, err=True)).line())
    if profile:
        from fti_ingest.cli.profile import print_profile

        print_profile(report)


def _ingest(job: IngestJob) -> RunReport:
    from fti_ingest.run.ingest import ingest
    from fti_ingest.run.json_log import json_log

    with json_log(job.files.log), progress_bar() as callbacks:
        return ingest(job, callbacks)


def _conclude(report: RunReport) -> None:
    print_lines(report.line())
    _tell_of_source(report.other_files, report.columns)
    if report.duplicates_file and report.duplicates:
        exact, near = report.duplicates["exact"], report.duplicates["near"]
        print_lines(
            f"{exact:,} exact and {near:,} near duplicates are listed in {report.duplicates_file}"
        )
    if report.outdated:
        print_lines(
            f"{report.outdated:,} of them are duplicates of images that changed in this run; run "
            "it again to compare them with the new images"
        )
    if report.recall:
        print_lines(f"recall@{report.recall.neighbors}: {report.recall}")
    if report.rejects_file:
        print_lines(f"rejected files are listed in {report.rejects_file}")


def _tell_of_source(other_files: Mapping[str, int], columns: Sequence[Column]) -> None:
    """Prints what was left out, and once for each payload column which type it has, and why."""
    from fti_ingest.sources.image_files import counted

    if other_files:
        print_lines(f"files that are no images: {counted(other_files)}")
    if columns:
        types = ", ".join(f"{one.name} {one.type}" for one in columns)
        print_lines(f"columns: {types}")
    for remark in (remark for one in columns for remark in one.remarks()):
        print_lines(remark)


def _preview(job: IngestJob) -> None:
    """Prints each bad file, duplicate, and image no longer in the source; then the counts."""
    from dataclasses import replace

    from fti_ingest.run.preview import preview

    out = sys.stdout  # while Ray runs, what others write there is not for the user

    def show(line: str) -> None:
        print_lines(line, file=out)

    with progress_bar() as callbacks:
        found = preview(
            job,
            replace(
                callbacks,
                reject=lambda one: show(f"would be rejected: {one.uri}: {one.reason}"),
                duplicate=lambda one: show(f"{one.kind} duplicate of {one.of_uri}: {one.uri}"),
                departed=lambda uri: show(f"no longer in the source: {uri}"),
            ),
        )
    print_lines(found.line())
    _tell_of_source(found.other_files, found.columns)


@contextmanager
def progress_bar() -> Iterator[Callbacks]:
    """A bar that follows a run. It appears when the work begins, so not before an early error."""
    from fti_ingest.run.pipeline import Callbacks
    from fti_qdrant.cli.progress import step_progress
    from fti_qdrant.cli.user_text import as_text

    progress = step_progress()
    task = progress.add_task("images", total=None)

    def begin(count: int) -> None:
        progress.update(task, total=count)
        progress.start()

    try:
        yield Callbacks(
            begin,
            advance=lambda count: progress.update(task, advance=count),
            note=lambda sentence: progress.console.print(as_text(sentence)),
        )
    finally:
        if progress.live.is_started:
            progress.stop()
