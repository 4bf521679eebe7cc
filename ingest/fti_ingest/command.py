"""``fti-ingest SOURCE``: pictures -> an embedded gallery or a server's collection."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from fti_ingest.listing import Source
from fti_ingest.pipeline import ModelChoice, Outcome, preview, run
from fti_ingest.prune import check_prunable
from fti_ingest.prune import prune as remove_departed
from fti_ingest.ray_session import quiet_ray
from fti_ingest.rejects import RejectsFile
from fti_ingest.source import read_source
from fti_ingest.worker_options import worker_options
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.place import gallery_options
from fti_qdrant.cli.progress import step_progress
from fti_qdrant.errors import BadManifest, GalleryNotFound
from fti_qdrant.gallery import Gallery, GallerySpec, IndexType, WordsSpec
from fti_qdrant.gallery.place import EmbeddedPlace, GalleryPlace, ServerPlace
from fti_qdrant.images import Preprocess

EPILOG = """\b
Examples:
  fti-ingest photos/ --gallery shop
  fti-ingest 'photos/**/*.jpg' --gallery shop --pseudo-words
  fti-ingest products.csv --gallery shop --model ViT-L-14-quickgelu/openai
  fti-ingest photos/ --gallery shop --prune --dry-run
  fti-ingest products.parquet --url http://localhost:6333 --collection shop

\b
A manifest (CSV, JSONL, Parquet) has a column "image" with paths relative to itself, or URLs;
all its other columns become the payload, indexed by their type, to filter by.
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
@worker_options
@click.option("--allow-urls", is_flag=True, help="Fetch images that the manifest names by URL.")
@click.option("--prune", is_flag=True, help="Then delete what the source does not list any more.")
@click.option("--dry-run", is_flag=True, help="Read everything, store nothing, say what would be.")
@click.option("--rejects", type=click.Path(path_type=Path), help="Where bad files are listed.")
@one_line_errors
def ingest(
    source: str,
    place: GalleryPlace,
    model: str,
    inverter: str | None,
    pseudo_words: bool,
    precision: str | None,
    workers: int,
    gpus_per_worker: float,
    ray_address: str | None,
    allow_urls: bool,
    prune: bool,
    dry_run: bool,
    rejects: Path | None,
) -> None:
    """Embed the images of SOURCE (folder, glob or manifest) into a Qdrant gallery.

    Bad files are listed in rejects.jsonl and never stop the run. Running twice changes nothing:
    images that the gallery holds as they are, are skipped. A run that was killed is finished by
    running it again.
    """
    listed = read_source(source)
    if prune:
        check_prunable(listed, source)
    spec, preprocess = _describe(model, inverter, precision, pseudo_words, listed.indexes)
    choice = ModelChoice(model, inverter, precision, preprocess, workers, gpus_per_worker)
    server = place if isinstance(place, ServerPlace) else None
    if dry_run:
        click.echo(_preview(listed, place, spec, preprocess, allow_urls, ray_address))
        return
    with _open(place, spec) as target, RejectsFile(rejects or _beside(place)) as rejected:
        for one in listed.rejects:
            rejected.add(one)
        with quiet_ray(ray_address), step_progress() as progress:
            task = progress.add_task("images", total=len(listed))
            outcome = run(
                listed,
                target,
                choice,
                server=server,
                allow_urls=allow_urls,
                reject=rejected.add,
                advance=lambda count: progress.update(task, advance=count),
            )
        outcome.images += len(listed.rejects)
        outcome.rejected += len(listed.rejects)
        outcome.pruned = remove_departed(target, listed) if prune else 0
    _conclude(outcome, rejected)


def _preview(
    listed: Source,
    place: GalleryPlace,
    spec: GallerySpec,
    preprocess: Preprocess,
    allow_urls: bool,
    ray_address: str | None,
) -> str:
    """What a run would do, a line for each bad file first; neither gallery nor list is made."""
    rejects = list(listed.rejects)
    try:
        target = place.open()
    except GalleryNotFound:
        target = None
    try:
        if target is not None:
            _check_fits(target, spec)
        with quiet_ray(ray_address), step_progress() as progress:
            task = progress.add_task("images", total=len(listed))
            told = preview(
                listed,
                target,
                preprocess,
                allow_urls=allow_urls,
                reject=rejects.append,
                advance=lambda count: progress.update(task, advance=count),
            )
    finally:
        if target is not None:
            target.close()
    told.rejected += len(listed.rejects)
    lines = [f"would be rejected: {one.uri}: {one.reason}" for one in rejects]
    return "\n".join([*lines, told.line()])


def _describe(
    model: str,
    inverter: str | None,
    precision: str | None,
    pseudo_words: bool,
    indexes: dict[str, IndexType],
) -> tuple[GallerySpec, Preprocess]:
    """Loads the model once, to know its fingerprint; the workers load their own."""
    from fti_qdrant.composer import Composer

    composer = Composer.load(model, inverter, device="cpu", precision=precision)
    words = None
    if pseudo_words:
        if composer.inverter is None:
            raise BadManifest(f"--pseudo-words with {model!r} needs --inverter")
        words = WordsSpec(
            inverter=composer.inverter.weights_hash,
            topk=composer.inverter.topk,
            token_dim=composer.backbone.token_dim,
        )
    backbone = composer.backbone
    spec = GallerySpec(fingerprint=backbone.fingerprint, indexes=indexes, words=words)
    return spec, backbone.preprocess


@contextmanager
def _open(place: GalleryPlace, spec: GallerySpec) -> Iterator[Gallery]:
    """Opens the gallery, or makes it. Raises ModelMismatch where it holds another model's."""
    try:
        opened = place.open()
    except GalleryNotFound:
        opened = place.create(spec)
    try:
        _check_fits(opened, spec)
        yield opened
    finally:
        opened.close()


def _check_fits(gallery: Gallery, spec: GallerySpec) -> None:
    """Raises ModelMismatch where it holds another model's vectors, or other pseudo-words."""
    gallery.spec.check_model(spec.fingerprint, gallery.name)
    gallery.spec.check_words(spec.words, gallery.name)


def _beside(place: GalleryPlace) -> Path:
    """Where bad files are listed unless told otherwise."""
    folder = place.path if isinstance(place, EmbeddedPlace) else Path()
    return folder / "rejects.jsonl"


def _conclude(outcome: Outcome, rejected: RejectsFile) -> None:
    click.echo(outcome.line())
    if rejected.first is None:
        return
    click.echo(f"rejected files are listed in {rejected.path}")
    if not outcome.stored and not outcome.unchanged:
        first = rejected.first
        raise BadManifest(f"no image could be stored; the first one, {first.uri}: {first.reason}")
