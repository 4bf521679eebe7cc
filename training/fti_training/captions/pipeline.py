"""The pipeline: images -> read, hash, decode -> caption -> split -> table, streamed through Ray."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from fti_ingest.engine.ray_blocks import BLOCKS
from fti_ingest.engine.resources import bound_backlog, model_pool, threads_per_worker
from fti_ingest.run.pipeline import worker_error
from fti_ingest.sources.listing import Reject
from fti_ingest.stages.row_status import UNCHANGED
from fti_training.captions.captioner import Pixels
from fti_training.captions.split import Splitter, cut_tail
from fti_training.captions.stages import Reader, Writer
from fti_training.captions.table import Caption, CaptionsTable

LARGEST_SHARE = 0.1
"""Of the time that may go into saving: a table of millions of rows takes seconds to write."""


@dataclass(frozen=True)
class ModelChoice:
    """What the workers load."""

    model: str
    pixels: Pixels
    precision: str | None = None
    workers: int = 1
    gpus_per_worker: float = 0


@dataclass
class Outcome:
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
            f"{self.images:,} images in: {self.captioned:,} captioned, {self.unsplit:,} without a "
            f"split, {self.unchanged:,} unchanged, {self.rejected:,} unreadable; "
            f"{rate:,.1f} images/s"
        )


def run(
    images: pa.Table,
    table: CaptionsTable,
    splitter: Splitter,
    captioner: ModelChoice | str,
    *,
    batch: int = 16,
    allow_urls: bool = False,
    save_every: float = 60.0,
    reject: Callable[[Reject], None] = lambda one: None,
    advance: Callable[[int], None] = lambda count: None,
) -> Outcome:
    """Captions the images that the table does not hold as they are.

    Args:
        images: columns uri and caption; the captions are null where a model is to write them.
        captioner: the model, or the name of the file that the captions came from.
        batch: images that are read, and captioned, at once.
        save_every: seconds between saves; a killed run loses no more than it did since.
        reject: told of each image that cannot be read.
        advance: told how many more images are done.

    Raises GalleryUnavailable where the cluster stops answering, OutputUnavailable where the table
    cannot be written. What is captioned by then is saved, unless it is the table that fails.
    """
    choice = captioner if isinstance(captioner, ModelChoice) else None
    name = captioner.model if isinstance(captioner, ModelChoice) else captioner
    outcome = Outcome()
    began = time.monotonic()
    due = began + save_every
    try:
        for done in _stream(_blocks(images, table, batch), choice, batch, allow_urls):
            for row in done.select(["uri", "caption", "sha256", "reason"]).to_pylist():
                reason = row.pop("reason")
                if reason == UNCHANGED:
                    outcome.unchanged += 1
                elif reason:
                    reject(Reject(row["uri"], reason))
                    outcome.rejected += 1
                else:
                    caption = cut_tail(row["caption"]) if choice else row["caption"]
                    split = splitter(caption)
                    outcome.captioned += split is not None
                    outcome.unsplit += split is None
                    table.add(
                        Caption(
                            uri=row["uri"],
                            caption=caption,
                            subject=split.subject if split else None,
                            attribute=split.attributes if split else None,
                            sha256=row["sha256"],
                        )
                    )
            advance(done.num_rows)
            if (now := time.monotonic()) >= due:
                table.save(name)
                took = time.monotonic() - now
                due = now + max(save_every, took / LARGEST_SHARE)
    finally:
        table.save(name)
    outcome.seconds = time.monotonic() - began
    return outcome


def _blocks(images: pa.Table, table: CaptionsTable, batch: int) -> list[pa.Table]:
    """The images cut into what one task reads, with the hashes of those that are done."""
    known = table.known(images["uri"], "sha256")
    held = table.known(images["uri"], "caption")
    same = pc.or_kleene(pc.is_null(images["caption"]), pc.equal(images["caption"], held))
    wanted = pc.if_else(pc.fill_null(same, False), known, pa.scalar(None, pa.string()))
    images = images.append_column("known", wanted).combine_chunks()
    rows = max(batch, math.ceil(len(images) / BLOCKS))
    return [images.slice(start, rows) for start in range(0, len(images), rows)]


def _stream(
    blocks: list[pa.Table], choice: ModelChoice | None, batch: int, allow_urls: bool
) -> Iterator[pa.Table]:
    if not blocks:
        return
    import ray
    from ray.data import Dataset
    from ray.exceptions import RayError

    batches: dict[str, Any] = {"batch_size": batch, "batch_format": "pyarrow"}
    dataset: Dataset = ray.data.from_arrow(blocks)
    # stages that ask for the same resources Ray would fuse: decoding would wait for the model
    reader = Reader(choice.pixels if choice else None, allow_urls)
    dataset = dataset.map_batches(reader, num_cpus=1, **batches)
    if choice is not None:
        bound_backlog(choice.pixels.nbytes, choice.workers, batch)
        threads = threads_per_worker(choice.workers)
        dataset = dataset.map_batches(
            Writer,
            fn_constructor_args=(choice.model, choice.precision, threads),
            **model_pool(choice.workers, choice.gpus_per_worker),
            **batches,
        )
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except RayError as error:
        raise worker_error(error) from error
