"""Where a step's features come from: pictures that Ray Data decodes, or a cache on disk."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from fti_ingest.sources.listing import Reject
from fti_ingest.stages.decode import Decoder, stacked_pixels, to_decode
from fti_qdrant.errors import BadImage
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_training.augment import jittered
from fti_training.cache.layout import Cache
from fti_training.distributed import World
from fti_training.fit.sampling_order import Order
from fti_training.samples import Samples
from fti_training.step import SplitCaption

CHUNK = 1000
"""Steps whose pictures are listed to Ray at a time."""

AHEAD = 2
"""Batches that are decoded while a step runs."""


@dataclass(frozen=True)
class Batch:
    """One worker's part of a step.

    Attributes:
        sentences: ``[n, d]``, features of the all-real sentences where they are stored.
        rejects: pictures that had to be left out.
    """

    features: ImageFeatures
    captions: list[SplitCaption]
    sentences: Tensor | None = None
    rejects: tuple[Reject, ...] = ()


class Batches(Protocol):
    """A worker's parts of the steps ``start`` to ``stop``, in order."""

    def parts(self, start: int, stop: int) -> Iterator[Batch]: ...


@dataclass(frozen=True)
class PictureBatches:
    """Reads and decodes on the cluster's CPUs, ahead of the steps; embeds here.

    A picture that cannot be read is left out of its batch and listed.
    """

    backbone: Backbone
    samples: Samples
    order: Order
    world: World
    augment: bool
    seed: int

    def parts(self, start: int, stop: int) -> Iterator[Batch]:
        """Raises BadImage where not one picture of a part can be read."""
        for first in range(start, stop, CHUNK):
            steps = range(first, min(first + CHUNK, stop))
            for step, decoded in zip(steps, self._decoded(steps), strict=True):
                yield self._batch(step, decoded)

    def _decoded(self, steps: range) -> Iterator[pa.Table]:
        import ray
        from ray.data import DataContext

        options = DataContext.get_current().execution_options
        options.preserve_order = True
        size = self.order.batch // self.world.size
        picture = 3 * self.backbone.preprocess.size**2
        options.resource_limits = options.resource_limits.copy(
            object_store_memory=(AHEAD + 4) * size * picture
        )
        tables = [self._listed(step) for step in steps]
        decoder = Decoder(self.backbone.preprocess)
        decoded = ray.data.from_arrow(tables).map_batches(
            decoder, batch_size=None, batch_format="pyarrow", num_cpus=1
        )
        yield from decoded.iter_batches(
            batch_size=size, batch_format="pyarrow", prefetch_batches=AHEAD
        )

    def _listed(self, step: int) -> pa.Table:
        """The rows that the decoder takes."""
        rows = self.order.part(step, self.world.rank, self.world.size)
        return to_decode(rows.tolist(), self.samples.uris(rows), ["{}"] * len(rows))

    def _batch(self, step: int, decoded: pa.Table) -> Batch:
        reasons = np.array(decoded["reason"].to_pylist(), dtype=object)
        uris = decoded["uri"].to_pylist()
        good, bad = np.flatnonzero(reasons == ""), np.flatnonzero(reasons != "")
        rejects = tuple(Reject(uris[row], reasons[row]) for row in bad)
        if not len(good):
            first = rejects[0]
            raise BadImage(f"no picture of step {step} can be read; the first: {first.reason}")
        pixels = stacked_pixels(decoded["pixels"].take(good), self.backbone.preprocess.size)
        if self.augment:
            pixels = jittered(pixels, self._generator(step))
        rows = np.array(decoded["id"].to_pylist(), dtype=np.int64)[good]
        features = self.backbone.pixel_features(pixels)
        return Batch(features, self.samples.captions(rows), None, rejects)

    def _generator(self, step: int) -> torch.Generator:
        seed: Any = np.random.SeedSequence([self.seed, step, self.world.rank])
        return torch.Generator().manual_seed(int(seed.generate_state(1)[0]))


@dataclass(frozen=True)
class CachedBatches:
    """Reads stored features, the next part while a step runs."""

    cache: Cache
    device: torch.device
    order: Order
    world: World

    def parts(self, start: int, stop: int) -> Iterator[Batch]:
        with ThreadPoolExecutor(1) as reader:
            coming = deque(reader.submit(self._part, step) for step in range(start, stop)[:AHEAD])
            for step in range(start, stop):
                if step + AHEAD < stop:
                    coming.append(reader.submit(self._part, step + AHEAD))
                yield coming.popleft().result()

    def _part(self, step: int) -> Batch:
        rows = self.order.part(step, self.world.rank, self.world.size)
        features, sentences = self.cache.read(rows)
        on_device = ImageFeatures(self._float(features.pooled), self._float(features.tokens))
        return Batch(on_device, self.cache.samples.captions(rows), self._float(sentences))

    def _float(self, stored: Tensor) -> Tensor:
        return stored.to(self.device, non_blocking=True).float()
