"""The pipeline: items -> read, decode -> embed -> gallery, streamed through Ray Data."""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fti_ingest.sinks import ServerAddress, ServerWriter, points
from fti_ingest.source import Item, Reject
from fti_ingest.stages import UNCHANGED, Batch, Decoder, Embedder
from fti_qdrant.errors import FtiError, GalleryUnavailable
from fti_qdrant.gallery import Gallery, GallerySpec
from fti_qdrant.gallery.points import OURS
from fti_qdrant.images import Preprocess

DECODE_BATCH = 32
EMBED_BATCH = 64


@dataclass(frozen=True)
class ModelChoice:
    """What the workers load."""

    model: str
    inverter: str | None = None
    precision: str | None = None
    preprocess: Preprocess | None = None


@dataclass
class Outcome:
    """What became of the images; ``rejects`` lists the bad ones."""

    images: int = 0
    stored: int = 0
    unchanged: int = 0
    rejects: list[Reject] = field(default_factory=list)
    seconds: float = 0.0

    def line(self) -> str:
        rate = self.images / self.seconds if self.seconds else 0.0
        return (
            f"{self.images:,} images in: {self.stored:,} stored, {self.unchanged:,} unchanged, "
            f"{len(self.rejects):,} rejected; {rate:,.1f} images/s"
        )


def run(
    items: list[Item],
    gallery: Gallery,
    choice: ModelChoice,
    *,
    server: ServerAddress | None = None,
    workers: int = 1,
    gpus_per_worker: float = 0,
    allow_urls: bool = False,
    advance: Callable[[int], None] = lambda count: None,
) -> Outcome:
    """Embeds the items that the gallery does not hold as they are, and stores them.

    Args:
        server: set where the gallery is a server's; then the workers write, else the driver.
        workers: actors that hold a model.
        advance: told how many more images are done.

    Raises GalleryUnavailable where the gallery stops answering; what was stored stays.
    """
    outcome = Outcome()
    began = time.monotonic()
    assert choice.preprocess is not None
    decoder = Decoder(choice.preprocess, revisions(gallery), allow_urls)
    stream = _stream(items, decoder, choice, gallery.spec, server, workers, gpus_per_worker)
    for batch in stream:
        reasons = np.asarray(batch["reason"])
        if server is None:
            gallery.upsert(points(batch, gallery.spec))
        outcome.images += len(reasons)
        outcome.stored += int((reasons == "").sum())
        outcome.unchanged += int((reasons == UNCHANGED).sum())
        outcome.rejects += [
            Reject(str(uri), str(reason))
            for uri, reason in zip(batch["uri"], reasons)
            if reason not in ("", UNCHANGED)
        ]
        advance(len(reasons))
    gallery.flush()
    outcome.seconds = time.monotonic() - began
    return outcome


def revisions(gallery: Gallery) -> dict[str, str]:
    """Point id -> revision of everything the gallery holds: what need not be embedded again."""
    return {id: payload.get(OURS, {}).get("revision", "") for id, payload in gallery.scroll()}


@contextmanager
def quiet_ray(address: str | None = None) -> Iterator[None]:
    """Starts Ray (or joins a cluster) without dashboard and chatter, and stops it after.

    Raises GalleryUnavailable where the cluster does not answer.
    """
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_DATA_DISABLE_PROGRESS_BARS", "1")
    import ray

    started_here = not ray.is_initialized()
    if started_here:
        try:
            ray.init(
                address=address,
                include_dashboard=None if address else False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise GalleryUnavailable(f"Ray cluster {address or 'local'}: {error}") from error
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    try:
        yield
    finally:
        if started_here:
            ray.shutdown()


def _stream(
    items: list[Item],
    decoder: Decoder,
    choice: ModelChoice,
    spec: GallerySpec,
    server: ServerAddress | None,
    workers: int,
    gpus_per_worker: float,
) -> Iterator[Batch]:
    import ray
    from ray.data import ActorPoolStrategy
    from ray.exceptions import RayError

    rows: list[dict[str, Any]] = [
        {"id": item.id, "uri": item.uri, "payload": json.dumps(item.payload)} for item in items
    ]
    blocks = max(1, min(len(rows) // DECODE_BATCH, 2000))
    dataset = ray.data.from_items(rows, override_num_blocks=blocks)
    dataset = dataset.map_batches(decoder, batch_size=DECODE_BATCH)
    dataset = dataset.map_batches(
        Embedder,
        fn_constructor_args=(
            choice.model,
            choice.inverter,
            spec.words is not None,
            choice.precision,
        ),
        batch_size=EMBED_BATCH,
        compute=ActorPoolStrategy(size=workers),
        num_gpus=gpus_per_worker or None,
    )
    if server is not None:
        dataset = dataset.map_batches(
            ServerWriter,
            fn_constructor_args=(server, spec),
            batch_size=EMBED_BATCH,
            compute=ActorPoolStrategy(size=1),
            num_cpus=0,
        )
    try:
        yield from dataset.iter_batches(batch_size=None, batch_format="numpy")
    except RayError as error:
        raise _cause(error) from error


def _cause(error: BaseException) -> FtiError:
    """The error inside Ray's: our own if it is one, else its last line."""
    inner: BaseException | None = error
    while inner is not None:
        if isinstance(inner, FtiError):
            return inner
        inner = getattr(inner, "cause", None) or inner.__cause__
    lines = [line for line in str(error).splitlines() if line.strip()]
    return GalleryUnavailable(f"a worker failed: {lines[-1].strip() if lines else error}")
