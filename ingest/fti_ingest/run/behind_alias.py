"""A run behind an alias: its gallery is made beside the one in use, and takes its place."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fti_ingest.run.alias_target import alias_target, same_place
from fti_ingest.run.ingest import IngestJob, ingest
from fti_ingest.run.pipeline import SILENT, Callbacks
from fti_ingest.run.report import RunReport
from fti_qdrant.errors import BadManifest, GalleryNotFound, GalleryUnavailable
from fti_qdrant.gallery.aliases import GalleryAlias, removal_command
from fti_qdrant.gallery.location import EmbeddedLocation, GalleryLocation

if TYPE_CHECKING:
    from typing_extensions import Self

logger = logging.getLogger("fti_ingest")

MOST_LOST = 0.1
"""Share of the source that may be rejected, and of the gallery in use that may be missing."""


@dataclass(frozen=True)
class Switch:
    """What an alias stands for after a run.

    Attributes:
        before: None where there was no alias, or where the gallery was updated in place.
    """

    alias: GalleryAlias
    before: GalleryLocation | None
    now: GalleryLocation
    in_place: bool = False

    def line(self) -> str:
        """In a sentence or two."""
        now = place(self.now)
        if self.in_place:
            return f"{self.alias.name} stands for {now}, which was updated in place"
        if self.before is None:
            return f"{self.alias.name} stands for {now}"
        return (
            f"{self.alias.name} stands for {now} now. The one before, {place(self.before)}, is "
            f"kept; delete it with: {removal_command(self.before)}"
        )


@dataclass(frozen=True)
class BehindAlias:
    """A run behind an alias.

    Attributes:
        job: with the gallery that it writes to.
        current: the gallery that the alias stood for before.
    """

    job: IngestJob
    alias: GalleryAlias
    current: GalleryLocation | None

    @classmethod
    def prepare(
        cls, job: IngestJob, alias: GalleryAlias, chosen: GalleryLocation | None = None
    ) -> Self:
        """Chooses the gallery to write to; by default see ``alias_target``. Raises as that does."""
        current = alias.target()
        target = chosen or alias_target(job, alias)
        return cls(replace(job, location=target), alias, current)

    def finish(self, report: RunReport, note: Callable[[str], None]) -> Switch:
        """Switches the alias after the run; ``note`` takes a sentence for the user.

        Raises BadManifest, GalleryUnavailable: see ``check_complete``; the alias stays as it was.
        """
        target = self.job.location
        if same_place(target, self.current):
            return Switch(self.alias, None, target, in_place=True)
        check_complete(report, self, note)
        return switch(self.alias, target)


def ingest_behind_alias(
    job: IngestJob,
    alias: GalleryAlias,
    chosen: GalleryLocation | None = None,
    callbacks: Callbacks = SILENT,
) -> tuple[RunReport, Switch]:
    """``ingest`` into a gallery beside the one that the alias stands for; then switches the alias.

    Raises as ``ingest`` and ``BehindAlias``.
    """
    behind = BehindAlias.prepare(job, alias, chosen)
    report = ingest(behind.job, callbacks)
    return report, behind.finish(report, callbacks.note)


def switch(alias: GalleryAlias, target: GalleryLocation) -> Switch:
    """Lets an alias stand for a gallery.

    Raises GalleryNotFound: there is no gallery; and as ``GalleryAlias``.
    """
    if isinstance(before := alias.target(), type(target)) and same_place(target, before):
        return Switch(alias, None, target)
    alias.switch(target)
    logger.info("switched", extra={"alias": alias.name, "to": place(target)})
    return Switch(alias, before, target)


def check_complete(report: RunReport, run: BehindAlias, note: Callable[[str], None]) -> None:
    """Whether the new gallery may take the place of the old one, and waits for its index.

    Raises:
        GalleryUnavailable: it holds fewer images than the run has stored or found there.
        BadManifest: more than a tenth of the source was rejected, or it holds less than nine tenths
            of what the old one holds.
    """
    target = run.job.location
    with closing(target.open()) as gallery:
        held = gallery.count()
        if not gallery.exact_by_default:
            note("waiting for the index ...")
            gallery.build_index()
    kept = report.stored + report.updated + report.unchanged
    stays = f"{run.alias.name} stays as it was. If all is right, switch it with: {_by_hand(run)}"
    if held < kept:
        raise GalleryUnavailable(
            f"{place(target)} holds {held:,} images, and the run has left {kept:,} there; {stays}"
        )
    if report.rejected > MOST_LOST * report.images:
        raise BadManifest(
            f"{report.rejected:,} of {report.images:,} images were rejected, see "
            f"{report.rejects_file}; {stays}"
        )
    before = _count(run.current)
    if run.current is not None and held < (1 - MOST_LOST) * before:
        raise BadManifest(
            f"{place(target)} holds {held:,} images, and {place(run.current)} {before:,}; {stays}"
        )


def _count(location: GalleryLocation | None) -> int:
    """Images of a gallery; 0 where there is none, or where another process has it open."""
    if location is None:
        return 0
    try:
        with closing(location.open()) as gallery:
            return gallery.count()
    except (GalleryNotFound, GalleryUnavailable):
        return 0


def place(location: GalleryLocation) -> str:
    """A gallery for messages."""
    if isinstance(location, EmbeddedLocation):
        return f"gallery {str(location.path)!r}"
    return f"collection {location.collection!r}"


def _by_hand(run: BehindAlias) -> str:
    """The command that switches the alias."""
    alias = run.alias.options()
    target = [one for one in run.job.location.options() if one not in alias]
    return shlex.join(["fti-ingest", "switch", *alias, *target])
