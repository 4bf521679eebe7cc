"""``add_words``: pseudo-words for the images of a gallery that was made without them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from fti_ingest.engine.choose import EngineChoice, open_engine
from fti_ingest.engine.protocol import CpuStage, Engine, Pipeline, TableBlocks, WorkerStage
from fti_ingest.run.pipeline import DECODE_ROWS, EMBED_ROWS, SILENT, Callbacks
from fti_ingest.run.rejects import RejectsFile
from fti_ingest.sources.source import Reject
from fti_ingest.stages.columns import matrix, rows_with, texts
from fti_ingest.stages.decode import Decoder
from fti_ingest.stages.embed import Embedder, ModelChoice, words_of
from fti_ingest.stages.row_status import REJECTED, STORE
from fti_qdrant.errors import BadCollection, BadManifest, Interrupted, ModelMismatch
from fti_qdrant.gallery import Gallery, GallerySpec, WordsSpec
from fti_qdrant.gallery.layout import Payload
from fti_qdrant.gallery.location import GalleryLocation
from fti_qdrant.gallery.point_ids import StoredId, parsed_id
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits, Preprocess
from fti_qdrant.images.inline import is_inline
from fti_qdrant.stored_pictures import own_root, picture_source

PAGE = 256
"""Images whose pictures are on their way at the same time."""


@dataclass(frozen=True)
class WordsJob:
    """A gallery, and the inverter that makes its pseudo-words.

    Attributes:
        inverter: None for the gallery's own, or the model's.
        rejects: list of the images that get none.
    """

    location: GalleryLocation
    inverter: str | None = None
    precision: str | None = None
    max_pixels: int = DEFAULT_LIMITS.max_pixels
    rejects: Path = Path("rejects.jsonl")
    engine: EngineChoice = field(default_factory=lambda: EngineChoice(engine="local"))


@dataclass
class WordsReport:
    """What became of the images that had none.

    Attributes:
        there: images that had pseudo-words before.
        place: where they are stored.
    """

    place: str
    there: int = 0
    stored: int = 0
    rejected: int = 0

    def line(self) -> str:
        """The counts in a sentence."""
        return (
            f"{self.stored:,} images got pseudo-words, {self.there:,} had them, "
            f"{self.rejected:,} rejected; they are stored {self.place}"
        )


def add_words(job: WordsJob, callbacks: Callbacks = SILENT) -> WordsReport:
    """Makes and stores the pseudo-words of all images of a gallery that have none.

    May be stopped and run again: what is stored stays, and only the rest is done.

    Raises:
        BadManifest: no inverter, or no image could be read.
        BadCollection: nothing says where the images are, or a vector of that name is another's.
        ModelMismatch: the gallery has pseudo-words of another inverter.
        GalleryNotFound, GalleryUnavailable, OutputUnavailable.
        Interrupted: on Ctrl-C, with what is stored kept.
    """
    with closing(job.location.open()) as gallery:
        if gallery.spec.layout.uri_field is None:
            raise BadCollection(
                f"nothing says where the images of gallery {gallery.name} are; adopt it with "
                "--uri-field FIELD"
            )
        choice = _choice(gallery, job)
        if gallery.spec.words is None or job.inverter is not None:
            _make_place(gallery, choice)
        report = WordsReport(_place(gallery))
        lacking = _count(gallery)
        report.there = gallery.count() - lacking
        if not lacking:
            return report
        callbacks.begin(lacking)
        with RejectsFile(job.rejects) as rejects, open_engine(job.engine) as engine:
            _run(gallery, choice, job, engine, report, rejects, callbacks)
    if rejects.first is not None and not report.stored:
        raise BadManifest(
            f"no image got pseudo-words, see {rejects.path}; the first one, {rejects.first.uri}: "
            f"{rejects.first.reason}"
        )
    return report


def _choice(gallery: Gallery, job: WordsJob) -> ModelChoice:
    spec = gallery.spec
    return ModelChoice(
        spec.fingerprint.model,
        job.inverter or (spec.words.name if spec.words else None),
        job.precision,
        preprocess=Preprocess.if_known(spec.fingerprint.preprocess),
    ).anywhere()


def _make_place(gallery: Gallery, choice: ModelChoice) -> None:
    composer = choice.load()
    gallery.spec.check_model(composer.backbone.fingerprint, gallery.name)
    words: WordsSpec | None = words_of(composer)
    if words is None:
        raise BadManifest(f"pseudo-words with {choice.model!r} need --inverter")
    if gallery.spec.words is None:
        named = {"name": choice.inverter, "partial": True}
        gallery.add_words(words.model_copy(update=named))
    elif not gallery.spec.words.matches(words):
        raise ModelMismatch(
            f"gallery {gallery.name} stores pseudo-words of inverter "
            f"{gallery.spec.words.inverter}, and the one that is asked for is {words.inverter}; "
            "leave out --inverter"
        )


def _place(gallery: Gallery) -> str:
    layout = gallery.spec.layout
    if layout.words_collection is None:
        return f"beside the images, as vector {layout.words_vector!r}"
    return f"in collection {layout.words_collection!r}"


def _count(gallery: Gallery) -> int:
    """Images without pseudo-words."""
    if gallery.spec.layout.words_collection is None:
        return gallery.count(_without_words(gallery.spec))
    return sum(map(len, _pages(gallery)))


def _pages(gallery: Gallery) -> Iterator[list[tuple[StoredId, Payload]]]:
    """The images without pseudo-words, some at a time."""
    beside = gallery.spec.layout.words_collection is not None
    held = gallery.scroll(PAGE, None if beside else _without_words(gallery.spec))
    while page := list(islice(held, PAGE)):
        if beside:
            lacking = set(gallery.lacking_words([id for id, _ in page]))
            page = [one for one in page if one[0] in lacking]
        yield page


def _without_words(spec: GallerySpec) -> Any:
    from qdrant_client import models

    has = models.HasVectorCondition(has_vector=spec.layout.words_vector)
    return models.Filter(must_not=[has])


def _run(
    gallery: Gallery,
    choice: ModelChoice,
    job: WordsJob,
    engine: Engine,
    report: WordsReport,
    rejects: RejectsFile,
    callbacks: Callbacks,
) -> None:
    stages = _stages(gallery, choice, job, engine.threads(1))

    def reject(one: Reject) -> None:
        report.rejected += 1
        rejects.add(one)
        callbacks.reject(one)

    try:
        for page in _pages(gallery):
            images, unplaced = _images(gallery, page)
            for bad in unplaced:
                reject(bad)
            callbacks.advance(len(unplaced))
            for batch in _batches(engine, images, stages):
                report.stored += _store(gallery, batch)
                for row in rows_with(batch, REJECTED).select(["id", "uri", "error"]).to_pylist():
                    place = f"image {row['id']}" if is_inline(row["uri"]) else row["uri"]
                    reject(Reject(place, row["error"]))
                callbacks.advance(batch.num_rows)
    except KeyboardInterrupt:
        raise Interrupted(
            f"stopped; what is stored stays in gallery {gallery.name}, and the same command "
            "continues"
        ) from None
    finally:
        gallery.flush()


def _stages(
    gallery: Gallery, choice: ModelChoice, job: WordsJob, threads: int
) -> tuple[CpuStage, WorkerStage]:
    spec = gallery.spec
    assert spec.words is not None
    other = spec.words.preprocess
    decoder = Decoder(
        Preprocess.for_decoding(spec.fingerprint.preprocess),
        allow_urls=True,  # the user named the field that holds them
        own=own_root(spec.layout),
        word_preprocess=None if other is None else Preprocess.for_decoding(other),
        limits=ImageLimits(max_pixels=job.max_pixels),
    )
    embed = WorkerStage(Embedder, (choice, spec, threads, gallery.name), EMBED_ROWS)
    return CpuStage(decoder, DECODE_ROWS), embed


def _images(
    gallery: Gallery, page: Sequence[tuple[StoredId, Payload]]
) -> tuple[list[tuple[str, str]], list[Reject]]:
    """Ids and places of pictures, and the images that have no place."""
    layout = gallery.spec.layout
    placed, unplaced = [], []
    for id, payload in page:
        source = picture_source(payload, layout)
        if source is None:
            unplaced.append(Reject(f"image {id}", f"no value in the field {layout.uri_field!r}"))
        else:
            placed.append((str(id), source))
    return placed, unplaced


def _batches(
    engine: Engine, images: Sequence[tuple[str, str]], stages: tuple[CpuStage, WorkerStage]
) -> Iterator[pa.Table]:
    if not images:
        return
    ids, places = zip(*images)
    nothing = [""] * len(ids)
    table = pa.table(
        {
            "id": texts(ids),
            "uri": texts(places),
            "payload": texts(nothing),
            "stored_revision": texts(nothing),
        }
    )
    with closing(engine.stream(Pipeline(TableBlocks([table]), stages))) as batches:
        yield from batches


def _store(gallery: Gallery, batch: pa.Table) -> int:
    """Stores the pseudo-words of a batch; returns of how many images."""
    from fti_qdrant.gallery.pseudo_words import used_rows

    rows, spec = rows_with(batch, STORE), gallery.spec.words
    if not rows.num_rows or spec is None:
        return 0
    found = matrix(rows["words"]).reshape(-1, 1 + spec.topk, spec.token_dim)
    ids, counts = map(parsed_id, rows["id"].to_pylist()), rows["r"].to_pylist()
    gallery.store_words({id: used_rows(one, r) for id, one, r in zip(ids, found, counts)})
    return int(rows.num_rows)
