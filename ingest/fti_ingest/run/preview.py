"""``--dry-run``: what a run would do, without writing anything."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field

from fti_ingest.engine.choose import open_engine
from fti_ingest.run.ingest import IngestJob, Ready, prepared
from fti_ingest.run.pipeline import SILENT, Callbacks, RunOptions, decoding
from fti_ingest.sources.column_types import Column
from fti_ingest.sources.source import Reject
from fti_ingest.stages.columns import rows_with
from fti_ingest.stages.deduplicate import duplicates_in
from fti_ingest.stages.row_status import (
    FOREIGN,
    PAYLOAD,
    REJECTED,
    SKIPPED,
    STORE,
    UNCHANGED,
)


@dataclass
class Preview:
    """What would become of the images.

    Attributes:
        foreign: images that the gallery holds as another program stored them.
        departed: images of the gallery that are no longer in the source.
        other_files: files of the source that are no images, by suffix.
        columns: payload columns with their types.
    """

    new: int = 0
    changed: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    foreign: int = 0
    skipped: int = 0
    departed: int = 0
    other_files: dict[str, int] = field(default_factory=dict)
    columns: tuple[Column, ...] = ()

    def line(self) -> str:
        stored = self.new + self.changed + self.updated
        total = stored + self.unchanged + self.rejected + self.foreign + self.skipped
        foreign = f", {self.foreign:,} stay as another program stored them" if self.foreign else ""
        updated = f", {self.updated:,} get a new payload only" if self.updated else ""
        skipped = f", {self.skipped:,} skipped as duplicates" if self.skipped else ""
        return (
            f"{total:,} images: {self.new:,} new and {self.changed:,} changed would be stored, "
            f"{self.unchanged:,} are unchanged, {self.rejected:,} would be rejected{updated}"
            f"{foreign}{skipped}; {self.departed:,} in the gallery are no longer in the source. "
            "Nothing was written"
        )


def preview(job: IngestJob, callbacks: Callbacks = SILENT) -> Preview:
    """Reads and decodes the images as ``ingest`` would; stores nothing. Raises as ``ingest``."""
    with prepared(job, callbacks.departed) as ready:
        departed = ready.contents.departed
        assert departed is not None
        found = Preview(
            rejected=ready.source.reject_count,
            departed=departed.count,
            other_files=ready.source.other_files,
            columns=ready.source.columns,
        )
        callbacks.begin(len(ready.source))
        for bad in ready.source.rejects():
            callbacks.reject(bad)
        if len(ready.source):
            _decode(ready, found, callbacks)
    return found


def _decode(ready: Ready, found: Preview, callbacks: Callbacks) -> None:
    job = ready.job
    options = RunOptions(
        allow_urls=job.allow_urls,
        max_pixels=job.max_pixels,
        dedupe=job.dedupe,
    )
    with open_engine(job.engine) as engine:
        pipeline = decoding(engine, ready.source, ready.contents, None, options)
        with closing(engine.stream(pipeline)) as batches:
            for batch in batches:
                counts = Counter(batch["status"].to_pylist())
                to_store = rows_with(batch, STORE)["stored_revision"].to_pylist()
                new = to_store.count("")
                found.new += new
                found.changed += len(to_store) - new
                found.updated += counts[PAYLOAD]
                found.unchanged += counts[UNCHANGED]
                found.foreign += counts[FOREIGN]
                found.skipped += counts[SKIPPED]
                found.rejected += counts[REJECTED]
                for bad in rows_with(batch, REJECTED).select(["uri", "error"]).to_pylist():
                    callbacks.reject(Reject(*bad.values()))
                for one in duplicates_in(batch):
                    callbacks.duplicate(one)
                callbacks.advance(batch.num_rows)
