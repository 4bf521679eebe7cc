"""``ingest``: what the command does, for other programs too."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TypeVar

from fti_ingest.engine.choose import EngineChoice, open_engine
from fti_ingest.engine.protocol import Engine
from fti_ingest.run.field_indexes import check_wanted
from fti_ingest.run.gallery_contents import Departed, GalleryContents, read_contents
from fti_ingest.run.outcome import Outcome, stage_uses
from fti_ingest.run.output_files import OutputFiles
from fti_ingest.run.pipeline import SILENT, Callbacks, RunOptions, run
from fti_ingest.run.prune import MAX_PRUNED, check_prunable, check_pruned_share
from fti_ingest.run.rejects import DuplicatesFile, RejectsFile
from fti_ingest.run.report import RunReport, counts_and_times, now
from fti_ingest.run.server_index import bulk_loading, recall_after
from fti_ingest.run.target_gallery import (
    check_adopted,
    check_fits,
    created_gallery,
    existing_gallery,
    model_for,
    new_spec,
    on_server,
)
from fti_ingest.sources.read_source import read_source
from fti_ingest.sources.source import Source
from fti_ingest.sources.value_kinds import ColumnType
from fti_ingest.stages.deduplicate import Dedupe
from fti_ingest.stages.embed import ModelChoice
from fti_qdrant.cli.extras import need
from fti_qdrant.errors import BadManifest, Interrupted
from fti_qdrant.gallery import Gallery, IndexType
from fti_qdrant.gallery.collection_config import CollectionConfig
from fti_qdrant.gallery.layout import OUR_LAYOUT
from fti_qdrant.gallery.location import GalleryLocation, ServerLocation
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits, Preprocess
from fti_qdrant.version import __version__

logger = logging.getLogger("fti_ingest")
T = TypeVar("T")


@dataclass(frozen=True)
class IngestJob:
    """A source, the gallery that it goes into, and how.

    Attributes:
        source: a folder, glob, manifest or archive, here or at a URI.
        model: what to embed with; None takes the model of an existing gallery.
        pseudo_words: store them in a new gallery; an existing one keeps doing what it does.
        indexes: payload fields to index in a new gallery; by default by their values.
        types: of payload columns, whatever their values look like; others are rejected.
        storage, bulk: how a server's new collection is stored, and whether its index is built
            after the load.
        max_pixels: larger images are rejected; see ``ImageLimits``.
        prune: delete what the source no longer lists, at most this ``prune_at_most`` share.
    """

    source: str
    location: GalleryLocation
    model: ModelChoice | None = None
    pseudo_words: bool = False
    indexes: Mapping[str, IndexType] = field(default_factory=dict)
    types: Mapping[str, ColumnType] = field(default_factory=dict)
    engine: EngineChoice = field(default_factory=EngineChoice)
    storage: CollectionConfig = field(default_factory=CollectionConfig)
    bulk: bool = False
    allow_urls: bool = False
    max_pixels: int = DEFAULT_LIMITS.max_pixels
    dedupe: Dedupe | None = None
    prune: bool = False
    prune_at_most: float = MAX_PRUNED
    files: OutputFiles = field(default_factory=OutputFiles)
    metrics_port: int | None = None

    def check(self) -> None:
        """Asks for all that may be missing before any work is done. Raises FtiError."""
        self.engine.check()
        if self.dedupe is not None:
            need("imagehash", "dedupe")
        if self.metrics_port is not None:
            need("prometheus_client", "metrics")


@dataclass(frozen=True)
class Ready:
    """A job whose source is listed and whose gallery has been opened.

    Attributes:
        gallery: None where there is none yet.
        contents: of the gallery.
    """

    job: IngestJob
    source: Source
    gallery: Gallery | None
    contents: GalleryContents
    model: ModelChoice


def ingest(job: IngestJob, callbacks: Callbacks = SILENT) -> RunReport:
    """Embeds what is new or changed in a source and stores it; see ``IngestJob``.

    Leaves ``report.json``, and ``rejects.jsonl`` and ``duplicates.jsonl`` where there are any.

    Raises:
        BadManifest: nothing can be listed or stored, or the gallery has other indexes.
        UnsupportedModel, ModelMismatch: no such model, or not the gallery's.
        GalleryUnavailable, OutputUnavailable: a store or disk fails; what is stored stays.
        Interrupted: on Ctrl-C, with what is stored kept.
    """
    began = now()
    with prepared(job) as ready, _target(ready) as gallery:
        files = job.files.beside(job.location)
        RunReport.make_room(files.report)
        callbacks.begin(len(ready.source))
        with (
            RejectsFile(files.rejects) as rejects,
            DuplicatesFile(files.duplicates) as duplicates,
            open_engine(job.engine, job.metrics_port) as engine,
            bulk_loading(gallery, job.location, job.bulk, callbacks.note) as load,
        ):
            recorded = replace(
                callbacks,
                reject=_both(rejects.add, callbacks.reject),
                duplicate=_both(duplicates.add, callbacks.duplicate),
            )
            options = _options(job, gallery, engine)
            outcome = _run(engine, ready, gallery, options, recorded)
            workers = options.workers
            capacity = engine.capacity(workers, workers if options.server else 1)
        recall = recall_after(gallery, load, outcome.stored, callbacks.note)
        report = RunReport(
            version=__version__,
            source=job.source,
            gallery=gallery.address,
            model=str(gallery.spec.fingerprint),
            engine=engine.name,
            began=began,
            ended=now(),
            duplicates=outcome.duplicates if job.dedupe else None,
            outdated=outcome.outdated,
            rejects_file=str(rejects.path) if rejects.count else None,
            duplicates_file=str(duplicates.path) if duplicates.count else None,
            other_files=ready.source.other_files,
            columns=list(ready.source.columns),
            recall=recall,
            **counts_and_times(outcome, stage_uses(outcome, capacity)),
        )
    report.write(files.report)
    logger.info("finished", extra=report.model_dump(mode="json"))
    if rejects.first is not None and outcome.rejected == outcome.images:
        first = rejects.first
        raise BadManifest(
            f"no image could be stored, see {rejects.path}; the first one, {first.uri}: "
            f"{first.reason}"
        )
    return report


@contextmanager
def prepared(job: IngestJob, departed: Callable[[str], None] | None = None) -> Iterator[Ready]:
    """Checks a job, opens its gallery where there is one, lists its source, and compares the two.

    Args:
        departed: called with the URI of each image of the gallery that is no longer in the source.
    """
    job.check()
    where = " ".join(job.location.options())
    logger.info("started", extra={"source": job.source, "gallery": where})
    with existing_gallery(job.location) as gallery:
        model = model_for(gallery, job.model, job.pseudo_words)
        limits = ImageLimits(max_pixels=job.max_pixels)
        layout = OUR_LAYOUT if gallery is None else gallery.spec.layout
        if gallery is not None:
            check_adopted(gallery, job.bulk)
        source = read_source(job.source, job.types, job.allow_urls, limits, layout)
        logger.info("listed", extra={"images": len(source), "rejected": source.reject_count})
        if job.prune:
            check_prunable(source, job.source)
        check_wanted(job.indexes, source.indexes)
        if gallery is not None:
            check_fits(gallery, job.location, job.indexes, source.indexes, job.storage)
        yield Ready(job, source, gallery, _contents(job, gallery, source, departed), model)


def _contents(
    job: IngestJob,
    gallery: Gallery | None,
    source: Source,
    report: Callable[[str], None] | None,
) -> GalleryContents:
    """Reads the gallery. Raises BadManifest where too much would be pruned."""
    layout = OUR_LAYOUT if gallery is None else gallery.spec.layout
    held = () if gallery is None else ((str(id), payload) for id, payload in gallery.scroll())
    dedupe = job.dedupe is not None
    if not job.prune and report is None:
        return read_contents(held, source, None, dedupe, layout)
    most = job.prune_at_most * gallery.count() if job.prune and gallery is not None else math.inf
    departed = Departed(source, not job.prune, most, report or (lambda uri: None), layout)
    contents = read_contents(held, source, departed, dedupe, layout)
    if job.prune and gallery is not None:
        check_pruned_share(gallery, departed, job.prune_at_most)
    return contents


@contextmanager
def _target(ready: Ready) -> Iterator[Gallery]:
    """The gallery, made where there is none."""
    if ready.gallery is not None:
        yield ready.gallery
        return
    job = ready.job
    spec = new_spec(ready.model, job.pseudo_words, job.indexes or ready.source.indexes)
    with created_gallery(job.location, spec, job.storage) as gallery:
        yield gallery


def _options(job: IngestJob, gallery: Gallery, engine: Engine) -> RunOptions:
    location, most_points = None, None
    server = on_server(gallery, job.location)
    if server is not None and engine.distributes and isinstance(job.location, ServerLocation):
        # of an alias, the workers write to what it stood for at the start
        location = replace(job.location, collection=server.collection)
        most_points = server.limits.points
    return RunOptions(
        workers=job.engine.workers,
        gpus_per_worker=job.engine.gpus_per_worker,
        server=location,
        most_points=most_points,
        allow_urls=job.allow_urls,
        max_pixels=job.max_pixels,
        dedupe=job.dedupe,
        metrics_port=job.metrics_port,
    )


def _run(
    engine: Engine, ready: Ready, gallery: Gallery, options: RunOptions, callbacks: Callbacks
) -> Outcome:
    preprocess = Preprocess.for_decoding(gallery.spec.fingerprint.preprocess)
    try:
        return run(
            engine,
            ready.source,
            gallery,
            ready.contents,
            ready.model,
            preprocess,
            options,
            callbacks,
        )
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; what is stored stays in gallery {gallery.name}, and the same command "
            "continues"
        ) from None


def _both(first: Callable[[T], None], second: Callable[[T], None]) -> Callable[[T], None]:
    def call(one: T) -> None:
        first(one)
        second(one)

    return call
