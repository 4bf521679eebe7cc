"""The pipeline: rows -> read, decode -> embed -> gallery, streamed through Ray Data."""

from __future__ import annotations

import math
import os
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from fti_ingest.known import Known
from fti_ingest.listing import Reject, Source
from fti_ingest.prune import departed
from fti_ingest.sinks import ServerWriter, points
from fti_ingest.stages import UNCHANGED, Decoder, Embedder
from fti_qdrant import errors
from fti_qdrant.errors import FtiError, GalleryUnavailable
from fti_qdrant.gallery import Gallery, GallerySpec
from fti_qdrant.gallery.place import ServerPlace
from fti_qdrant.images import Preprocess

if TYPE_CHECKING:
    from ray.data import Dataset

DECODE_BATCH = 32
EMBED_BATCH = 64
MOST_BLOCKS = 2000
"""Tasks that Ray's scheduler has to look after; larger sources get larger blocks."""

BACKLOG = 8
"""Batches of pixels, for each model, that may wait between the stages."""

PREVIEWED = ("uri", "reason", "known")

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


@dataclass
class Outcome:
    """What became of the images."""

    images: int = 0
    stored: int = 0
    unchanged: int = 0
    rejected: int = 0
    pruned: int = 0
    seconds: float = 0.0

    def line(self) -> str:
        rate = self.images / self.seconds if self.seconds else 0.0
        pruned = f", {self.pruned:,} pruned" if self.pruned else ""
        return (
            f"{self.images:,} images in: {self.stored:,} stored, {self.unchanged:,} unchanged, "
            f"{self.rejected:,} rejected{pruned}; {rate:,.1f} images/s"
        )


@dataclass
class Preview:
    """What would become of the images."""

    new: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0
    departed: int = 0

    def line(self) -> str:
        images = self.new + self.changed + self.unchanged + self.rejected
        return (
            f"{images:,} images in: {self.new:,} new and {self.changed:,} changed would be stored, "
            f"{self.unchanged:,} are unchanged, {self.rejected:,} would be rejected; "
            f"{self.departed:,} in the gallery have left the source. Nothing was written"
        )


def run(
    source: Source,
    gallery: Gallery,
    choice: ModelChoice,
    *,
    server: ServerPlace | None = None,
    allow_urls: bool = False,
    reject: Callable[[Reject], None] = lambda one: None,
    advance: Callable[[int], None] = lambda count: None,
) -> Outcome:
    """Embeds the images that the gallery does not hold as they are, and stores them.

    Args:
        server: set where the gallery is a server's; then the workers write, else the driver.
        reject: told of each bad file.
        advance: told how many more images are done.

    Raises GalleryUnavailable where the gallery stops answering; what was stored stays.
    """
    outcome = Outcome()
    began = time.monotonic()
    blocks = _blocks(source, Known(gallery))
    for batch in _stream(blocks, choice, gallery.spec, server, allow_urls):
        if server is None:
            gallery.upsert(points(batch, gallery.spec))
        reasons = np.array(batch["reason"].to_pylist(), dtype=object)
        for row in np.flatnonzero((reasons != "") & (reasons != UNCHANGED)):
            reject(Reject(batch["uri"][int(row)].as_py(), reasons[row]))
            outcome.rejected += 1
        outcome.images += len(reasons)
        outcome.stored += int((reasons == "").sum())
        outcome.unchanged += int((reasons == UNCHANGED).sum())
        advance(len(reasons))
    gallery.flush()
    outcome.seconds = time.monotonic() - began
    return outcome


def preview(
    source: Source,
    gallery: Gallery | None,
    preprocess: Preprocess,
    *,
    allow_urls: bool = False,
    reject: Callable[[Reject], None] = lambda one: None,
    advance: Callable[[int], None] = lambda count: None,
) -> Preview:
    """Reads and decodes the images as a run would, and stores nothing; see ``run``."""
    told = Preview(departed=sum(1 for _ in departed(gallery, source)) if gallery else 0)
    blocks = _blocks(source, Known(gallery))
    if not blocks:
        return told
    for batch in _answers(_decoded(blocks, preprocess, allow_urls).drop_columns(["pixels"])):
        for uri, reason, known in zip(*(batch[name].to_pylist() for name in PREVIEWED)):
            told.unchanged += reason == UNCHANGED
            told.new += not reason and not known
            told.changed += not reason and bool(known)
            if reason not in ("", UNCHANGED):
                told.rejected += 1
                reject(Reject(uri, reason))
        advance(batch.num_rows)
    return told


def _blocks(source: Source, known: Known) -> list[pa.Table]:
    """The source cut into what one task decodes, with the revisions that the gallery holds."""
    rows = max(DECODE_BATCH, math.ceil(len(source) / MOST_BLOCKS))
    blocks = [source.table.slice(start, rows) for start in range(0, len(source), rows)]
    return [
        block.append_column(
            "known", pa.array(known.revisions(block["id"].to_pylist()), pa.string())
        )
        for block in blocks
    ]


def _stream(
    blocks: list[pa.Table],
    choice: ModelChoice,
    spec: GallerySpec,
    server: ServerPlace | None,
    allow_urls: bool,
) -> Iterator[pa.Table]:
    if not blocks:
        return
    from ray.data import ActorPoolStrategy

    bound_backlog(3 * choice.preprocess.size**2, choice.workers, EMBED_BATCH)
    threads = threads_per_worker(choice.workers)
    words = spec.words is not None
    pool: dict[str, Any] = {
        "batch_size": EMBED_BATCH,
        "batch_format": "pyarrow",
        "compute": ActorPoolStrategy(size=choice.workers),
        "num_cpus": 0,
    }
    dataset = _decoded(blocks, choice.preprocess, allow_urls).map_batches(
        Embedder,
        fn_constructor_args=(choice.model, choice.inverter, words, choice.precision, threads),
        num_gpus=choice.gpus_per_worker or None,
        **pool,
    )
    if server is not None:
        dataset = dataset.map_batches(ServerWriter, fn_constructor_args=(server, spec), **pool)
    yield from _answers(dataset)


def _decoded(blocks: list[pa.Table], preprocess: Preprocess, allow_urls: bool) -> Dataset:
    """Stage 1; stages that ask for the same resources Ray would fuse: decoding would wait."""
    import ray

    return ray.data.from_arrow(blocks).map_batches(
        Decoder(preprocess, allow_urls),
        batch_size=DECODE_BATCH,
        batch_format="pyarrow",
        num_cpus=1,
    )


def _answers(dataset: Dataset) -> Iterator[pa.Table]:
    """Batches as they are done; a worker's error comes out as ours."""
    from ray.exceptions import RayError

    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="pyarrow")
    except RayError as error:
        raise worker_error(error) from error


def bound_backlog(picture: int, workers: int, batch: int) -> None:
    """Decoding runs ahead of the model; Ray alone would let it fill half of the object store.

    Args:
        picture: bytes of one decoded picture.
        batch: pictures that a model takes at once.
    """
    import ray
    from ray.data import DataContext, ExecutionResources

    decoding = ray.cluster_resources().get("CPU", 1) * DECODE_BATCH
    backlog = (BACKLOG * workers * batch + decoding) * picture
    options = DataContext.get_current().execution_options
    options.resource_limits = ExecutionResources.for_limits(object_store_memory=backlog)


def threads_per_worker(workers: int) -> int:
    """CPU threads for each of the model's processes, where they spread over Ray's nodes evenly."""
    import ray

    nodes = max(1, sum(node["Alive"] for node in ray.nodes()))
    return max(1, cpus() // math.ceil(workers / nodes))


def cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def worker_error(error: BaseException) -> FtiError:
    """Ray hands on a worker's error as a traceback: our own error again, or one line of it."""
    raised = list(RAISED.finditer(str(error)))
    if not raised:
        return GalleryUnavailable(f"a worker failed: {str(error).strip().splitlines()[0]}")
    kind, message = raised[-1].groups()
    module, _, name = kind.rpartition(".")
    ours = getattr(errors, name, None) if module == errors.__name__ else None
    return ours(message) if ours else GalleryUnavailable(f"a worker failed: {name}: {message}")
