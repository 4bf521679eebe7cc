"""Pictures of each step, which an engine decodes ahead and the backbone embeds here."""

from __future__ import annotations

import math
from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from fti_ingest.engine.batching import rebatched
from fti_ingest.engine.protocol import CpuStage, Engine, Pipeline
from fti_ingest.sources.source import Reject
from fti_ingest.stages.decode import stacked_pixels
from fti_ingest.stages.row_status import STORE
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_training.augment import jittered
from fti_training.distributed import ProcessGroup
from fti_training.fit.sampling_order import Parts
from fti_training.fit.step_blocks import StepBlocks
from fti_training.picture_decoder import PictureDecoder

STEPS_AT_ONCE = 1000
"""Steps of one pipeline: Ray plans every block of a pipeline before the first one runs."""

MIN_DECODED = 8
"""Fewest pictures that a CPU decodes at once."""


@dataclass(frozen=True)
class Pictures:
    """The pictures of a step that could be read.

    Attributes:
        rows: their numbers, in the order of the features.
        rejects: those that could not be read.
    """

    features: ImageFeatures
    rows: list[int]
    rejects: tuple[Reject, ...]


@dataclass(frozen=True)
class PictureParts:
    """One process's pictures of the given steps, in order.

    A picture that cannot be read is left out of its part, and listed.

    Attributes:
        uris: of all pictures, by row.
    """

    backbone: Backbone
    uris: pa.ChunkedArray
    order: Parts
    group: ProcessGroup
    engine: Engine
    augment: bool
    seed: int

    def __call__(self, steps: range) -> Generator[Pictures, None, None]:
        """A part in which no picture can be read has features without rows and patch tokens."""
        for start in range(0, len(steps), STEPS_AT_ONCE):
            planned = steps[start : start + STEPS_AT_ONCE]
            with closing(self.engine.stream(self._pipeline(planned))) as tables:
                decoded = rebatched(tables, self.order.batch // self.group.size)
                for step, table in zip(planned, decoded, strict=True):
                    yield self._pictures(step, table)

    def _pipeline(self, steps: range) -> Pipeline:
        blocks = StepBlocks(self.uris, self.order, steps, self.group.rank, self.group.size)
        part = self.order.batch // self.group.size
        rows = max(MIN_DECODED, math.ceil(part / self.engine.capacity(1, 1).cpus))
        stage = CpuStage(PictureDecoder(self.backbone.preprocess), rows)
        row_bytes = 3 * self.backbone.preprocess.size**2
        return Pipeline(blocks, (stage,), ordered=True, row_bytes=row_bytes)

    def _pictures(self, step: int, decoded: pa.Table) -> Pictures:
        good = np.array([status == STORE for status in decoded["status"].to_pylist()])
        bad = decoded.filter(pa.array(~good)).select(["uri", "error"]).to_pylist()
        rejects = tuple(Reject(row["uri"], row["error"]) for row in bad)
        if not good.any():
            nothing = torch.zeros(0, self.backbone.dim, device=self.backbone.device)
            return Pictures(ImageFeatures(nothing), [], rejects)
        kept = decoded.filter(pa.array(good))
        pixels = stacked_pixels(kept["pixels"], self.backbone.preprocess.size)
        if self.augment:
            pixels = jittered(pixels, self._generator(step))
        return Pictures(self.backbone.pixel_features(pixels), kept["row"].to_pylist(), rejects)

    def _generator(self, step: int) -> torch.Generator:
        return torch.Generator().manual_seed(step_seed(self.seed, step, self.group.rank))


def step_seed(seed: int, step: int, rank: int) -> int:
    """A seed of its own for each step and process."""
    sequence: Any = np.random.SeedSequence([seed, step, rank])
    return int(sequence.generate_state(1)[0])
