"""Images -> captions.parquet: read, hash and decode -> caption -> split -> table."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fti_ingest.engine.protocol import CpuStage, Engine, Pipeline, Stage, TableBlocks, WorkerStage
from fti_ingest.sources.source import Reject
from fti_ingest.stages.row_status import REJECTED, UNCHANGED
from fti_training.captions.captioner import Pixels
from fti_training.captions.split import Splitter, cut_repeated_end
from fti_training.captions.stages import CaptionWriter, ImageReader
from fti_training.captions.table import Caption, CaptionsTable

MAX_SAVING = 0.1
"""Share of the time that may go into saving: millions of rows take seconds to write."""

MAX_BLOCKS = 2000
"""Each block is a task that Ray's scheduler keeps track of."""

COLUMNS = ["uri", "caption", "sha256", "status", "error"]


@dataclass(frozen=True)
class CaptionerChoice:
    """The model that writes captions, and the workers that hold it."""

    model: str
    pixels: Pixels
    precision: str | None = None
    workers: int = 1
    gpus_per_worker: float = 0


@dataclass
class CaptionsOutcome:
    """What became of the images; each is counted once."""

    captioned: int = 0
    unsplit: int = 0
    unchanged: int = 0
    rejected: int = 0
    seconds: float = 0.0

    @property
    def images(self) -> int:
        return self.captioned + self.unsplit + self.unchanged + self.rejected

    def line(self) -> str:
        rate = self.images / self.seconds if self.seconds else 0.0
        return (
            f"{self.images:,} images: {self.captioned:,} captioned, {self.unsplit:,} without a "
            f"split, {self.unchanged:,} unchanged, {self.rejected:,} unreadable; "
            f"{rate:,.1f} images/s"
        )


def caption_images(
    images: pa.Table,
    table: CaptionsTable,
    splitter: Splitter,
    captioner: CaptionerChoice | str,
    engine: Engine,
    *,
    batch: int = 16,
    allow_urls: bool = False,
    save_every: float = 60.0,
    reject: Callable[[Reject], None] = lambda one: None,
    advance: Callable[[int], None] = lambda count: None,
) -> CaptionsOutcome:
    """Captions the images that are new or changed since the table was written.

    Args:
        images: columns uri and caption; the captions are null where a model is to write them.
        captioner: the model, or the name of the file that the captions came from.
        batch: images that are read, and captioned, at once.
        save_every: seconds between saves; a killed run loses no more than that.
        reject: called with each image that cannot be read.
        advance: called with the number of images done since the last call.

    Raises GalleryUnavailable where the cluster stops answering, OutputUnavailable where the table
    cannot be written. What is captioned by then is saved, unless it is the table that fails.
    """
    choice = captioner if isinstance(captioner, CaptionerChoice) else None
    name = captioner.model if isinstance(captioner, CaptionerChoice) else captioner
    outcome = CaptionsOutcome()
    began = time.monotonic()
    due = began + save_every
    stages = _stages(choice, engine, batch, allow_urls)
    try:
        with closing(_stream(images, table, batch, stages, choice, engine)) as stream:
            for done in stream:
                for row in done.select(COLUMNS).to_pylist():
                    _take(row, table, splitter, choice is not None, outcome, reject)
                advance(done.num_rows)
                if (now := time.monotonic()) >= due:
                    table.save(name)
                    took = time.monotonic() - now
                    due = now + max(save_every, took / MAX_SAVING)
    finally:
        table.save(name)
    outcome.seconds = time.monotonic() - began
    return outcome


def _take(
    row: dict[str, Any],
    table: CaptionsTable,
    splitter: Splitter,
    by_model: bool,
    outcome: CaptionsOutcome,
    reject: Callable[[Reject], None],
) -> None:
    """Adds one finished image to the table and the counts."""
    if row["status"] == UNCHANGED:
        outcome.unchanged += 1
        return
    if row["status"] == REJECTED:
        reject(Reject(row["uri"], row["error"]))
        outcome.rejected += 1
        return
    caption = cut_repeated_end(row["caption"]) if by_model else row["caption"]
    split = splitter(caption)
    outcome.captioned += split is not None
    outcome.unsplit += split is None
    subject, attribute = (split.subject, split.attributes) if split else (None, None)
    table.add(Caption(row["uri"], caption, subject, attribute, row["sha256"]))


def with_stored_hashes(images: pa.Table, table: CaptionsTable) -> pa.Table:
    """The images with a column stored_sha256: null for those that must be captioned."""
    stored = table.stored(images["uri"], "sha256")
    captions = table.stored(images["uri"], "caption")
    same = pc.or_kleene(pc.is_null(images["caption"]), pc.equal(images["caption"], captions))
    hashes = pc.if_else(pc.fill_null(same, False), stored, pa.scalar(None, pa.string()))
    return images.append_column("stored_sha256", hashes).combine_chunks()


def _stages(
    choice: CaptionerChoice | None, engine: Engine, batch: int, allow_urls: bool
) -> tuple[Stage, ...]:
    reader = CpuStage(ImageReader(choice.pixels if choice else None, allow_urls), batch)
    if choice is None:
        return (reader,)
    threads = engine.threads(choice.workers) if engine.distributes else None
    writer = WorkerStage(
        CaptionWriter,
        (choice.model, choice.precision, threads),
        rows=batch,
        workers=choice.workers,
        gpus=choice.gpus_per_worker,
    )
    return (reader, writer)


def _stream(
    images: pa.Table,
    table: CaptionsTable,
    batch: int,
    stages: tuple[Stage, ...],
    choice: CaptionerChoice | None,
    engine: Engine,
) -> Generator[pa.Table, None, None]:
    if not len(images):
        return
    images = with_stored_hashes(images, table)
    rows = max(batch, math.ceil(len(images) / MAX_BLOCKS))
    blocks = [images.slice(start, rows) for start in range(0, len(images), rows)]
    row_bytes = choice.pixels.nbytes if choice else 0
    yield from engine.stream(Pipeline(TableBlocks(blocks), stages, row_bytes=row_bytes))
