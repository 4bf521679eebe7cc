"""``fti-ingest SOURCE``: pictures -> an embedded gallery or a server's collection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib.metadata import version
from typing import get_args

import click

from fti_ingest.cli.dry_run import tell_dry
from fti_ingest.cli.index_option import index_option
from fti_ingest.cli.output_options import Outputs, outputs_options
from fti_ingest.cli.server_options import ServerChoice, server_options
from fti_ingest.cli.worker_options import worker_options
from fti_ingest.engine.resources import capacity
from fti_ingest.engine.session import quiet_ray
from fti_ingest.run.outcome import Outcome, stage_uses
from fti_ingest.run.pipeline import RunOptions, Told, run
from fti_ingest.run.prune import check_prunable
from fti_ingest.run.rejects import DuplicatesFile, RejectsFile
from fti_ingest.run.report import (
    RunReport,
    counts_and_times,
    json_log,
    logger,
    now,
    print_profile,
)
from fti_ingest.run.target_gallery import bulk_loading, describe, opened_or_made
from fti_ingest.sources.listing import Source
from fti_ingest.sources.read_source import read_source
from fti_ingest.stages.deduplicate import Dedupe
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.extras import need
from fti_qdrant.cli.gallery_options import gallery_options
from fti_qdrant.cli.progress import step_progress
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import IndexType
from fti_qdrant.gallery.location import GalleryLocation, ServerLocation

EPILOG = """\b
Examples:
  fti-ingest photos/ --gallery shop
  fti-ingest 'photos/**/*.jpg' --gallery shop --pseudo-words
  fti-ingest products.csv --gallery shop --model ViT-L-14-quickgelu/openai
  fti-ingest photos/ --gallery shop --prune --dry-run
  fti-ingest 's3://bucket/shards/*.tar' --gallery shop --dedupe skip --profile
  fti-ingest products.parquet --url http://localhost:6333 --collection shop
  fti-ingest s3://bucket/products.parquet --url https://qdrant:6333 --collection shop \\
      --bulk --quantization scalar --grpc --index brand:keyword,price:float

\b
A manifest (CSV, JSONL, Parquet) has a column "image" with paths relative to itself, or URIs;
all its other columns become the payload, indexed by their type, to filter by. In WebDataset
shards (.tar) the .json beside an image is its payload. A compressed tar is refused.
"""


@click.command("run", epilog=EPILOG)
@click.argument("source")
@gallery_options
@click.option(
    "--model", default="mini", show_default=True, help="mini, ARCH/PRETRAINED, hf-hub:, local-dir:"
)
@click.option("--inverter", help="Folder or hub name of an inverter, for --pseudo-words.")
@click.option(
    "--pseudo-words", is_flag=True, help="Store pseudo-words: queries by id need no picture."
)
@index_option
@worker_options
@server_options
@click.option("--allow-urls", is_flag=True, help="Fetch images that the manifest names by URL.")
@click.option(
    "--dedupe",
    type=click.Choice(get_args(Dedupe)),
    help="Look for duplicates, exact and near (the same picture re-encoded or resized): keep them, "
    "mark them in the payload (_fti.duplicate_of), or skip them. [default: do not look]",
)
@click.option("--prune", is_flag=True, help="Then delete what the source does not list any more.")
@click.option("--dry-run", is_flag=True, help="Read all, store nothing, say what would happen.")
@click.option("--profile", is_flag=True, help="Print where the time went, and what to change.")
@outputs_options
@click.option("--metrics-port", type=int, help="Serve Prometheus metrics of our own Ray here.")
@one_line_errors
def ingest(
    source: str,
    location: GalleryLocation,
    model: str,
    inverter: str | None,
    pseudo_words: bool,
    indexes: dict[str, IndexType],
    precision: str | None,
    workers: int,
    gpus_per_worker: float,
    ray_address: str | None,
    server: ServerChoice,
    allow_urls: bool,
    dedupe: Dedupe | None,
    prune: bool,
    dry_run: bool,
    profile: bool,
    outputs: Outputs,
    metrics_port: int | None,
) -> None:
    """Embed the images of SOURCE into a Qdrant gallery.

    SOURCE is a folder, a glob, a manifest, or .tar and .zip archives, here or at a URI such as
    s3://bucket/photos. Bad files are listed in rejects.jsonl and never stop the run. Running twice
    changes nothing: images that the gallery holds as they are, are skipped. A run that was killed
    is finished by running it again.
    """
    location = server.location(location)
    if dedupe is not None:
        need("imagehash", "dedupe")
    workers_write = location if isinstance(location, ServerLocation) else None
    options = RunOptions(workers_write, allow_urls, dedupe, prune)
    began = now()
    with json_log(outputs.log):
        listed = _listed(source, location, prune)
        fields = indexes or listed.indexes
        spec, choice = describe(model, inverter, precision, pseudo_words, fields)
        choice = replace(choice, workers=workers, gpus_per_worker=gpus_per_worker)
        if dry_run:
            tell_dry(listed, location, spec, indexes, choice.preprocess, options, ray_address)
            return
        with opened_or_made(location, spec, server, indexes, listed.indexes) as target:
            RunReport.make_room(outputs.report_at(location))
            with (
                RejectsFile(outputs.rejects_at(location)) as rejected,
                DuplicatesFile(outputs.duplicates_at(location)) as doubled,
                quiet_ray(ray_address, metrics_port),
                bulk_loading(target, server.bulk),
                _told(len(listed), rejected, doubled) as told,
            ):
                outcome = run(listed, target, choice, options, told)
                uses = stage_uses(outcome, capacity(workers, workers if workers_write else 1))
        report = RunReport(
            version=version("fti-qdrant"),
            source=source,
            gallery=target.address,
            model=str(spec.fingerprint),
            began=began,
            ended=now(),
            duplicates=outcome.duplicates if dedupe else None,
            rejects_file=str(rejected.path) if rejected.count else None,
            duplicates_file=str(doubled.path) if doubled.count else None,
            **counts_and_times(outcome, uses),
        )
        report.write(outputs.report_at(location))
        logger.info("finished", extra=report.model_dump(mode="json"))
    _conclude(outcome, rejected, doubled)
    if profile:
        print_profile(report)


def _listed(source: str, location: GalleryLocation, prune: bool) -> Source:
    """Raises BadManifest."""
    logger.info("started", extra={"source": source, "gallery": " ".join(location.options())})
    listed = read_source(source)
    logger.info("listed", extra={"images": len(listed), "rejected": listed.reject_count})
    if prune:
        check_prunable(listed, source)
    return listed


@contextmanager
def _told(images: int, rejected: RejectsFile, doubled: DuplicatesFile) -> Iterator[Told]:
    """A run's files are told of it, and a progress bar."""
    with step_progress() as progress:
        task = progress.add_task("images", total=images)
        yield Told(rejected.add, doubled.add, lambda count: progress.update(task, advance=count))


def _conclude(outcome: Outcome, rejected: RejectsFile, doubled: DuplicatesFile) -> None:
    click.echo(outcome.line())
    if doubled.count:
        found = outcome.duplicates
        click.echo(
            f"{found['exact']:,} exact and {found['near']:,} near duplicates are listed in "
            f"{doubled.path}"
        )
    if outcome.outdated:
        click.echo(
            f"{outcome.outdated:,} of them are duplicates of what has changed in this run; run it "
            "again to have them looked at anew"
        )
    if rejected.first is None:
        return
    click.echo(f"rejected files are listed in {rejected.path}")
    if outcome.rejected == outcome.images:
        first = rejected.first
        raise BadManifest(f"no image could be stored; the first one, {first.uri}: {first.reason}")
