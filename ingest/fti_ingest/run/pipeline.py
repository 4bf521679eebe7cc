"""The pipeline: rows -> read, decode -> embed -> gallery, streamed through Ray Data."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fti_ingest.engine.ray_blocks import beside_driver, staged
from fti_ingest.engine.resources import (
    DECODE_BATCH,
    EMBED_BATCH,
    GPU_BATCH,
    bound_backlog,
    model_pool,
    threads_per_worker,
)
from fti_ingest.run.outcome import Outcome
from fti_ingest.run.prune import ListedIds, prune
from fti_ingest.sources.listing import Reject, Source
from fti_ingest.stages.columns import rows_with, spread
from fti_ingest.stages.decode import Decoder
from fti_ingest.stages.deduplicate import (
    Dedupe,
    Deduplicator,
    Duplicate,
    Originals,
    duplicates_in,
    outdated_ids,
)
from fti_ingest.stages.embed import Embedder
from fti_ingest.stages.revisions import ask_anew, known_pairs
from fti_ingest.stages.row_status import UPDATED
from fti_ingest.stages.write import ServerWriter, messages_in, points, updated_points
from fti_qdrant import errors
from fti_qdrant.errors import FtiError, GalleryUnavailable
from fti_qdrant.gallery import Gallery
from fti_qdrant.gallery.location import ServerLocation
from fti_qdrant.gallery.points import Payload
from fti_qdrant.images import Preprocess

if TYPE_CHECKING:
    from ray.data import Dataset

logger = logging.getLogger(__name__)

ORIGINALS = "originals.sqlite"
"""Where duplicates are looked for, among a run's temporary files."""

RAISED = re.compile(r"^((?:\w+\.)*[A-Z]\w*): (.+)$", re.MULTILINE)
"""The line of a traceback that names the error."""


@dataclass(frozen=True)
class ModelChoice:
    """What the workers load."""

    model: str
    inverter: str | None
    precision: str | None
    preprocess: Preprocess
    workers: int = 1
    gpus_per_worker: float = 0


@dataclass(frozen=True)
class RunOptions:
    """What else a run is asked for.

    Attributes:
        server: set where the gallery is a server's; then the workers write, else the driver.
        allow_urls: fetch images that a manifest names by URL.
        dedupe: what becomes of duplicates; None does not look for them.
        prune: delete in the end what the source does not list.
    """

    server: ServerLocation | None = None
    allow_urls: bool = False
    dedupe: Dedupe | None = None
    prune: bool = False


@dataclass(frozen=True)
class Told:
    """Who is told what, while a run goes on."""

    reject: Callable[[Reject], None] = lambda one: None
    duplicate: Callable[[Duplicate], None] = lambda one: None
    advance: Callable[[int], None] = lambda count: None
    departed: Callable[[str], None] = lambda uri: None


def run(
    source: Source,
    gallery: Gallery,
    choice: ModelChoice,
    options: RunOptions = RunOptions(),
    told: Told = Told(),
) -> Outcome:
    """Embeds the images that the gallery does not hold as they are, and stores them.

    Raises GalleryUnavailable where the gallery stops answering; what was stored stays.
    """
    from fti_ingest.run.metrics import RunMetrics

    for bad in source.rejects():
        told.reject(bad)
    outcome = Outcome(images=source.reject_count, rejected=source.reject_count)
    metrics = RunMetrics(gallery.address, outcome.images + len(source))
    began = time.monotonic()
    for batch in _stream(source, gallery, choice, options):
        if options.server is None:
            batch = _stored(batch, gallery)
        if outdated := outdated_ids(batch):
            gallery.delete(outdated)
        for bad in outcome.add(batch):
            told.reject(bad)
        if not outcome.first:
            outcome.note_first(time.monotonic() - began)
        for message in messages_in(batch):
            logger.info(message)
        for found in duplicates_in(batch):
            outcome.duplicates[found.kind] += 1
            told.duplicate(found)
        metrics.follow(outcome)
        told.advance(batch.num_rows)
    gallery.flush()
    outcome.seconds = time.monotonic() - began
    outcome.pruned = prune(gallery, source) if options.prune else 0
    if options.dedupe in ("mark", "skip"):
        with closing(Originals(str(source.scratch.path / ORIGINALS))) as originals:
            outcome.outdated = len(originals.outdated())
    return outcome


def _stored(batch: pa.Table, gallery: Gallery) -> pa.Table:
    began = time.perf_counter()
    updated = updated_points(rows_with(batch, UPDATED), gallery)
    gallery.upsert([*points(batch, gallery.spec), *updated])
    return batch.append_column("write_s", spread(time.perf_counter() - began, batch.num_rows))


def _stream(
    source: Source,
    gallery: Gallery,
    choice: ModelChoice,
    options: RunOptions,
) -> Iterator[pa.Table]:
    if not len(source):
        return
    batch = GPU_BATCH if choice.gpus_per_worker else EMBED_BATCH
    batches: dict[str, Any] = {"batch_size": batch, "batch_format": "pyarrow"}
    models = model_pool(choice.workers, choice.gpus_per_worker)
    bound_backlog(3 * choice.preprocess.size**2, choice.workers, batch)
    threads = threads_per_worker(choice.workers)
    words = gallery.spec.words is not None
    dataset = decoded(source, gallery.scroll(), choice.preprocess, options).map_batches(
        Embedder,
        fn_constructor_args=(choice.model, choice.inverter, words, choice.precision, threads),
        **batches,
        **models,
    )
    if options.server is not None:
        writer = (options.server, gallery.spec)
        writers = model_pool(choice.workers)
        dataset = dataset.map_batches(
            ServerWriter, fn_constructor_args=writer, **batches, **writers
        )
    yield from answers(dataset)


def decoded(
    source: Source,
    held: Iterable[tuple[str, Payload]],
    preprocess: Preprocess,
    options: RunOptions,
) -> Dataset:
    """The images read, decoded and, where asked for, looked at for duplicates.

    Stages that ask for the same resources Ray would fuse: decoding would wait. Of two that are
    alike the first in the source counts, so that a second run decides alike.

    Args:
        held: what the gallery holds, of ``Gallery.scroll``.
    """
    from ray.data import ActorPoolStrategy, DataContext

    dedupe = options.dedupe
    decoder = Decoder(preprocess, options.allow_urls, source.own, looks=dedupe is not None)
    DataContext.get_current().execution_options.preserve_order = dedupe is not None
    if dedupe is None:
        return staged(source, known_pairs(held), decoder, DECODE_BATCH)
    path = str(source.scratch.path / ORIGINALS)
    with closing(Originals(path)) as originals:
        stay = ListedIds(source).__contains__ if options.prune else lambda id: True
        known = known_pairs(originals.noting(held, stay))
        ask_anew(known, originals.outdated())
    return staged(source, known, decoder, DECODE_BATCH).map_batches(
        Deduplicator,
        fn_constructor_args=(beside_driver(Originals, path), dedupe),
        batch_size=None,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=1),
        num_cpus=0,
    )


def answers(dataset: Dataset) -> Iterator[pa.Table]:
    """Batches as they are done; a worker's error comes out as ours."""
    from ray.exceptions import RayError

    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except RayError as error:
        raise worker_error(error) from error


def worker_error(error: BaseException) -> FtiError:
    """Ray hands on a worker's error as a traceback: our own error again, or one line of it."""
    raised = list(RAISED.finditer(str(error)))
    if not raised:
        return GalleryUnavailable(f"a worker failed: {str(error).strip().splitlines()[0]}")
    kind, message = raised[-1].groups()
    module, _, name = kind.rpartition(".")
    ours = getattr(errors, name, None) if module == errors.__name__ else None
    return ours(message) if ours else GalleryUnavailable(f"a worker failed: {name}: {message}")
