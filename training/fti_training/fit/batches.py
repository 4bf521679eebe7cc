"""The features and captions of each step: of pictures that are read, or of a cache on disk."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from fti_ingest.engine.ahead import made_ahead
from fti_ingest.sources.source import Reject
from fti_qdrant.errors import BadImage
from fti_qdrant.model.backbone import ImageFeatures
from fti_training.cache.layout import Cache
from fti_training.distributed import ProcessGroup
from fti_training.fit.picture_parts import PictureParts
from fti_training.fit.sampling_order import Parts
from fti_training.samples import Samples
from fti_training.split_caption import SplitCaption
from fti_training.step import Triplets


@dataclass(frozen=True)
class Batch:
    """One process's part of a step.

    Attributes:
        rows: numbers of the samples.
        sentences: ``[n, d]``, features of the all-real sentences, where they are stored.
        triplets: composed queries, where the run has some.
        rejects: pictures that could not be read.
    """

    features: ImageFeatures
    captions: list[SplitCaption]
    rows: list[int]
    sentences: Tensor | None = None
    triplets: Triplets | None = None
    rejects: tuple[Reject, ...] = ()


class Batches(Protocol):
    """One process's parts of the given steps, in order."""

    def parts(self, steps: range) -> Generator[Batch, None, None]: ...


@dataclass(frozen=True)
class PictureBatches:
    """Pictures that are read for each step, with their captions."""

    pictures: PictureParts
    samples: Samples

    def parts(self, steps: range) -> Generator[Batch, None, None]:
        """Raises BadImage where not one picture of a part can be read."""
        with closing(self.pictures(steps)) as parts:
            for step, part in zip(steps, parts, strict=True):
                if not part.rows:
                    first = f"{part.rejects[0].uri}: {part.rejects[0].reason}"
                    raise BadImage(f"no picture of step {step} can be read; the first: {first}")
                captions = self.samples.captions(part.rows)
                yield Batch(part.features, captions, part.rows, rejects=part.rejects)


@dataclass(frozen=True)
class CachedBatches:
    """Stored features; the next ones are read while a step runs."""

    cache: Cache
    device: torch.device
    order: Parts
    group: ProcessGroup

    def parts(self, steps: range) -> Generator[Batch, None, None]:
        return made_ahead(self._part(step) for step in steps)

    def _part(self, step: int) -> Batch:
        rows = self.order.part(step, self.group.rank, self.group.size)
        features, sentences = self.cache.read(rows)
        tokens = self._float(features.required_tokens())
        on_device = ImageFeatures(self._float(features.pooled), tokens)
        captions = self.cache.samples.captions(rows)
        return Batch(on_device, captions, rows.tolist(), self._float(sentences))

    def _float(self, stored: Tensor) -> Tensor:
        return stored.to(self.device, non_blocking=True).float()
