"""The features of each step: of pictures that an engine decodes ahead, or of a cache on disk."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from fti_ingest.engine.batching import rebatched
from fti_ingest.engine.protocol import CpuStage, Engine, Pipeline
from fti_ingest.sources.source import Reject
from fti_ingest.stages.decode import stacked_pixels
from fti_ingest.stages.row_status import STORE
from fti_qdrant.errors import BadImage
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_training.augment import jittered
from fti_training.cache.layout import Cache
from fti_training.distributed import ProcessGroup
from fti_training.fit.sampling_order import Parts
from fti_training.fit.step_blocks import StepBlocks
from fti_training.picture_decoder import PictureDecoder
from fti_training.samples import Samples
from fti_training.split_caption import SplitCaption

STEPS_AT_ONCE = 1000
"""Steps of one pipeline: Ray plans every block of a pipeline before the first one runs."""

MIN_DECODED = 8
"""Fewest pictures that a CPU decodes at once."""

READ_AHEAD = 2
"""Batches of a cache that are read while a step runs."""


@dataclass(frozen=True)
class Batch:
    """One process's part of a step.

    Attributes:
        sentences: ``[n, d]``, features of the all-real sentences, where they are stored.
        rejects: pictures that could not be read.
    """

    features: ImageFeatures
    captions: list[SplitCaption]
    sentences: Tensor | None = None
    rejects: tuple[Reject, ...] = ()


class Batches(Protocol):
    """One process's parts of the given steps, in order."""

    def parts(self, steps: range) -> Generator[Batch, None, None]: ...


@dataclass(frozen=True)
class PictureBatches:
    """Pictures decoded by an engine, ahead of the steps, and embedded here.

    A picture that cannot be read is left out of its batch, and listed.
    """

    backbone: Backbone
    samples: Samples
    order: Parts
    group: ProcessGroup
    engine: Engine
    augment: bool
    seed: int

    def parts(self, steps: range) -> Generator[Batch, None, None]:
        """Raises BadImage where not one picture of a part can be read."""
        for start in range(0, len(steps), STEPS_AT_ONCE):
            planned = steps[start : start + STEPS_AT_ONCE]
            with closing(self.engine.stream(self._pipeline(planned))) as tables:
                decoded = rebatched(tables, self.order.batch // self.group.size)
                for step, table in zip(planned, decoded, strict=True):
                    yield self._batch(step, table)

    def _pipeline(self, steps: range) -> Pipeline:
        uris = self.samples.table["uri"]
        blocks = StepBlocks(uris, self.order, steps, self.group.rank, self.group.size)
        part = self.order.batch // self.group.size
        rows = max(MIN_DECODED, math.ceil(part / self.engine.capacity(1, 1).cpus))
        stage = CpuStage(PictureDecoder(self.backbone.preprocess), rows)
        row_bytes = 3 * self.backbone.preprocess.size**2
        return Pipeline(blocks, (stage,), ordered=True, row_bytes=row_bytes)

    def _batch(self, step: int, decoded: pa.Table) -> Batch:
        good = np.array([status == STORE for status in decoded["status"].to_pylist()])
        bad = decoded.filter(pa.array(~good)).select(["uri", "error"]).to_pylist()
        rejects = tuple(Reject(row["uri"], row["error"]) for row in bad)
        if not good.any():
            first = f"{rejects[0].uri}: {rejects[0].reason}"
            raise BadImage(f"no picture of step {step} can be read; the first: {first}")
        kept = decoded.filter(pa.array(good))
        pixels = stacked_pixels(kept["pixels"], self.backbone.preprocess.size)
        if self.augment:
            pixels = jittered(pixels, self._generator(step))
        features = self.backbone.pixel_features(pixels)
        return Batch(features, self.samples.captions(kept["row"].to_pylist()), None, rejects)

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(step_seed(self.seed, step, self.group.rank))


@dataclass(frozen=True)
class CachedBatches:
    """Stored features; the next parts are read while a step runs."""

    cache: Cache
    device: torch.device
    order: Parts
    group: ProcessGroup

    def parts(self, steps: range) -> Generator[Batch, None, None]:
        with ThreadPoolExecutor(1) as reader:
            coming = deque(reader.submit(self._part, step) for step in steps[:READ_AHEAD])
            for number in range(len(steps)):
                if number + READ_AHEAD < len(steps):
                    coming.append(reader.submit(self._part, steps[number + READ_AHEAD]))
                yield coming.popleft().result()

    def _part(self, step: int) -> Batch:
        rows = self.order.part(step, self.group.rank, self.group.size)
        features, sentences = self.cache.read(rows)
        tokens = self._float(features.required_tokens())
        on_device = ImageFeatures(self._float(features.pooled), tokens)
        return Batch(on_device, self.cache.samples.captions(rows), self._float(sentences))

    def _float(self, stored: Tensor) -> Tensor:
        return stored.to(self.device, non_blocking=True).float()


def step_seed(seed: int, step: int, rank: int) -> int:
    """A seed of its own for each step and process."""
    sequence: Any = np.random.SeedSequence([seed, step, rank])
    return int(sequence.generate_state(1)[0])
