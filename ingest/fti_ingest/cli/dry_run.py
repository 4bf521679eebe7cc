"""``--dry-run``: what a run would do, told and not done."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

import click

from fti_ingest.engine.session import quiet_ray
from fti_ingest.run.pipeline import RunOptions, Told, answers, decoded
from fti_ingest.run.prune import departed
from fti_ingest.run.target_gallery import check_fits
from fti_ingest.sources.listing import Reject, Source
from fti_ingest.stages.deduplicate import Duplicate, duplicates_in
from fti_ingest.stages.row_status import NO_FAULT, SKIPPED, UNCHANGED, UPDATED
from fti_qdrant.cli.progress import step_progress
from fti_qdrant.errors import GalleryNotFound
from fti_qdrant.gallery import Gallery, GallerySpec, IndexType
from fti_qdrant.gallery.location import GalleryLocation
from fti_qdrant.gallery.points import OURS
from fti_qdrant.images import Preprocess

SEEN = ("uri", "reason", "known")


@dataclass
class Preview:
    """What would become of the images."""

    new: int = 0
    changed: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    skipped: int = 0
    departed: int = 0

    def line(self) -> str:
        seen = (self.new, self.changed, self.updated, self.unchanged, self.rejected, self.skipped)
        updated = f", {self.updated:,} get a new payload only" if self.updated else ""
        skipped = f", {self.skipped:,} skipped as duplicates" if self.skipped else ""
        return (
            f"{sum(seen):,} images in: {self.new:,} new and {self.changed:,} changed would be "
            f"stored, {self.unchanged:,} are unchanged, {self.rejected:,} would be rejected"
            f"{updated}{skipped}; {self.departed:,} in the gallery have left the source. "
            "Nothing was written"
        )


def preview(
    source: Source,
    gallery: Gallery | None,
    preprocess: Preprocess,
    options: RunOptions,
    told: Told,
) -> Preview:
    """Reads and decodes the images as a run would, and stores nothing.

    ``gallery`` is None where there is none yet.
    """
    for bad in source.rejects():
        told.reject(bad)
    seen = Preview(rejected=source.reject_count)
    for id, payload in departed(gallery, source) if gallery else ():
        seen.departed += 1
        told.departed(payload.get(OURS, {}).get("uri", id))
    if not len(source):
        return seen
    dataset = decoded(source, gallery.scroll() if gallery else (), preprocess, options)
    for batch in answers(dataset.drop_columns(["pixels"])):
        for uri, reason, known in zip(*(batch[name].to_pylist() for name in SEEN)):
            seen.unchanged += reason == UNCHANGED
            seen.new += not reason and not known
            seen.changed += not reason and bool(known)
            seen.updated += reason == UPDATED
            seen.skipped += reason == SKIPPED
            if reason not in NO_FAULT:
                seen.rejected += 1
                told.reject(Reject(uri, reason))
        for one in duplicates_in(batch):
            told.duplicate(one)
        told.advance(batch.num_rows)
    return seen


def tell_dry(
    source: Source,
    location: GalleryLocation,
    spec: GallerySpec,
    indexes: Mapping[str, IndexType],
    preprocess: Preprocess,
    options: RunOptions,
    ray_address: str | None,
) -> None:
    """Prints each bad file, duplicate, and what has left the source, then counts; makes no file.

    Args:
        indexes: those that the user asks for.

    Raises as ``check_fits``.
    """
    try:
        target = location.open()
    except GalleryNotFound:
        target = None

    out = sys.stdout  # while Ray runs, what others write there is not for the user

    def tell_reject(one: Reject) -> None:
        click.echo(f"would be rejected: {one.uri}: {one.reason}", file=out)

    def tell_departed(uri: str) -> None:
        click.echo(f"has left the source: {uri}", file=out)

    def tell_duplicate(one: Duplicate) -> None:
        click.echo(f"{one.kind} duplicate of {one.of_uri}: {one.uri}", file=out)

    try:
        if target is not None:
            check_fits(target, spec, indexes, source.indexes)
        with quiet_ray(ray_address), step_progress() as progress:
            task = progress.add_task("images", total=len(source))
            told = Told(
                tell_reject,
                tell_duplicate,
                departed=tell_departed,
                advance=lambda count: progress.update(task, advance=count),
            )
            seen = preview(source, target, preprocess, options, told)
    finally:
        if target is not None:
            target.close()
    click.echo(seen.line())
