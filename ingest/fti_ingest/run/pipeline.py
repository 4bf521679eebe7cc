"""One run: rows -> read and decode -> embed -> gallery, streamed through an engine."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from fti_ingest.engine.protocol import CpuStage, Engine, Pipeline, Tables, WorkerStage
from fti_ingest.run.gallery_contents import GalleryContents, originals_of
from fti_ingest.run.listed_blocks import ListedBlocks, block_rows
from fti_ingest.run.metrics import Metrics
from fti_ingest.run.outcome import Outcome
from fti_ingest.run.prune import prune
from fti_ingest.sources.source import Reject, Source
from fti_ingest.stages.decode import Decoder
from fti_ingest.stages.deduplicate import (
    Dedupe,
    Deduplicator,
    Duplicate,
    Originals,
    duplicates_in,
    replaced_duplicates,
)
from fti_ingest.stages.embed import Embedder, ModelChoice
from fti_ingest.stages.write import ServerWriter, messages_in, write
from fti_qdrant.gallery import Gallery
from fti_qdrant.gallery.location import ServerLocation
from fti_qdrant.gallery.point_ids import parsed_id
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits, Preprocess

logger = logging.getLogger(__name__)

DECODE_ROWS = 32
EMBED_ROWS, GPU_ROWS = 64, 256


@dataclass(frozen=True)
class RunOptions:
    """What a run is asked for, beside its source, its gallery and its model.

    Attributes:
        workers: processes that hold the model.
        gpus_per_worker: share of a GPU for each.
        server: where workers write to; None where the driver writes.
        most_points: of one upload to it, where it limits them.
        allow_urls: fetch images from any web server that a manifest names.
        max_pixels: larger images are rejected.
        dedupe: what becomes of duplicates; None does not look for them.
        metrics_port: where Prometheus metrics are served.
    """

    workers: int = 1
    gpus_per_worker: float = 0.0
    server: ServerLocation | None = None
    most_points: int | None = None
    allow_urls: bool = False
    max_pixels: int = DEFAULT_LIMITS.max_pixels
    dedupe: Dedupe | None = None
    metrics_port: int | None = None


@dataclass(frozen=True)
class Callbacks:
    """What is called while a run goes on.

    Attributes:
        begin: with the number of listed images.
        advance: with the number of images that are done since the last call.
        reject, duplicate: for each such image.
        departed: a dry run calls it with the URI of each image that is no longer in the source.
        note: with a sentence for the user.
    """

    begin: Callable[[int], None] = lambda count: None
    advance: Callable[[int], None] = lambda count: None
    reject: Callable[[Reject], None] = lambda reject: None
    duplicate: Callable[[Duplicate], None] = lambda duplicate: None
    departed: Callable[[str], None] = lambda uri: None
    note: Callable[[str], None] = lambda sentence: None


SILENT = Callbacks()


def run(
    engine: Engine,
    source: Source,
    gallery: Gallery,
    contents: GalleryContents,
    model: ModelChoice,
    preprocess: Preprocess,
    options: RunOptions,
    callbacks: Callbacks = SILENT,
) -> Outcome:
    """Embeds and stores what is new or changed, then deletes what ``contents`` says has departed.

    Raises GalleryUnavailable where the gallery stops answering; what was stored stays.
    """
    outcome = Outcome()
    for bad in source.rejects():
        outcome.images, outcome.rejected = outcome.images + 1, outcome.rejected + 1
        callbacks.reject(bad)
    total = outcome.images + len(source)
    began = time.monotonic()
    with (
        Metrics.of(engine, gallery.address, total, options.metrics_port) as metrics,
        closing(_stream(engine, source, gallery, contents, model, preprocess, options)) as batches,
    ):
        try:
            for batch in batches:
                if options.server is None:
                    batch = write(batch, gallery, options.dedupe == "mark")
                if replaced := replaced_duplicates(batch):
                    gallery.delete(list(map(parsed_id, replaced)))
                _follow(batch, outcome, callbacks, time.monotonic() - began)
                metrics.follow(outcome)
        finally:
            gallery.flush()
    outcome.seconds = time.monotonic() - began
    outcome.pruned = prune(gallery, contents.departed) if contents.departed is not None else 0
    if options.dedupe in ("mark", "skip") and len(source):
        with closing(Originals(originals_of(source))) as originals:
            outcome.outdated = len(originals.outdated())
    return outcome


def _follow(batch: pa.Table, outcome: Outcome, callbacks: Callbacks, seconds: float) -> None:
    """Counts a finished batch, and reports what it holds."""
    for bad in outcome.add(batch):
        callbacks.reject(bad)
    if not outcome.first:
        outcome.note_first(seconds)
    for message in messages_in(batch):
        logger.info(message)
    for found in duplicates_in(batch):
        outcome.duplicates[found.kind] += 1
        callbacks.duplicate(found)
    callbacks.advance(batch.num_rows)


def _stream(
    engine: Engine,
    source: Source,
    gallery: Gallery,
    contents: GalleryContents,
    model: ModelChoice,
    preprocess: Preprocess,
    options: RunOptions,
) -> Tables:
    if not len(source):
        return
    rows = GPU_ROWS if options.gpus_per_worker else EMBED_ROWS
    threads = engine.threads(options.workers)
    embed = WorkerStage(
        Embedder,
        (model, gallery.spec, threads, gallery.name),
        rows,
        options.workers,
        options.gpus_per_worker,
    )
    stages: list[CpuStage | WorkerStage] = [embed]
    if options.server is not None:
        mark = options.dedupe == "mark"
        arguments = (options.server, gallery.spec, mark, options.most_points)
        stages.append(WorkerStage(ServerWriter, arguments, rows, options.workers))
    words = gallery.spec.words
    other = None if words is None or words.preprocess is None else words.preprocess
    word_preprocess = None if other is None else Preprocess.for_decoding(other)
    yield from engine.stream(
        decoding(engine, source, contents, preprocess, options, tuple(stages), word_preprocess)
    )


def decoding(
    engine: Engine,
    source: Source,
    contents: GalleryContents,
    preprocess: Preprocess | None,
    options: RunOptions,
    stages: tuple[CpuStage | WorkerStage, ...] = (),
    word_preprocess: Preprocess | None = None,
) -> Pipeline:
    """Images read, decoded and, where asked for, compared to find duplicates; then ``stages``.

    Of duplicates, the first in the source is the original, so that a second run decides alike.

    Args:
        preprocess: None only checks that images can be decoded.
        word_preprocess: of what pseudo-words are made of, where it is another.
    """
    dedupe = options.dedupe
    limits = ImageLimits(max_pixels=options.max_pixels)
    decoder = Decoder(
        preprocess, options.allow_urls, source.own, dedupe is not None, word_preprocess, limits
    )
    first: list[Any] = [CpuStage(decoder, DECODE_ROWS)]
    if dedupe is not None:
        decide_all = engine.shared(Originals, (originals_of(source),), "decide_all")
        first.append(WorkerStage(Deduplicator, (decide_all, dedupe == "skip")))
    return Pipeline(
        ListedBlocks(source.path, contents.revisions, block_rows(len(source))),
        (*first, *stages),
        ordered=dedupe is not None,
        row_bytes=sum(3 * one.size**2 for one in (preprocess, word_preprocess) if one),
    )
