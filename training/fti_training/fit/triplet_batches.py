"""The composed queries of each step, with the pictures that answer them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from fti_ingest.sources.source import Reject
from fti_qdrant.errors import BadImage, FtiError
from fti_qdrant.model.backbone import ImageFeatures
from fti_training.fit.batches import Batch, Batches
from fti_training.fit.picture_parts import PictureParts, Pictures
from fti_training.fit.sampling_order import Rows, SamplingOrder
from fti_training.samples import Samples
from fti_training.step import Triplets
from fti_training.triplet_table import TripletTable


@dataclass(frozen=True)
class BothPictures:
    """The rows of ``TripletTable.pictures`` of each step: references, and then their targets."""

    order: SamplingOrder

    @classmethod
    def over(cls, triplets: TripletTable, batch: int, seed: int) -> BothPictures:
        """Raises FtiError where there are fewer triplets than those of one step."""
        if len(triplets) < batch:
            raise FtiError(
                f"{len(triplets)} triplets do not fill a step's triplet_batch of {batch}; "
                f"set triplet_batch={len(triplets)} or less"
            )
        return cls(SamplingOrder(len(triplets), batch, seed))

    @property
    def batch(self) -> int:
        return 2 * self.order.batch

    def part(self, step: int, rank: int, size: int) -> Rows:
        rows = self.order.part(step, rank, size)
        return np.concatenate([rows, rows + self.order.samples])


@dataclass(frozen=True)
class TripletBatch:
    """One process's composed queries of a step.

    Attributes:
        references: features of T reference pictures.
        texts: T modification texts.
        targets: ``[T, d]``, features of the answers.
        shown: ``[T]``, what each reference shows, as a number; ``answers`` are of the targets.
        rejects: pictures that could not be read.
    """

    references: ImageFeatures
    texts: list[str]
    targets: Tensor
    shown: list[int]
    answers: list[int]
    rejects: tuple[Reject, ...]


@dataclass(frozen=True)
class TripletBatches:
    """Triplets whose two pictures can be read; the others are left out, and the pictures listed.

    Attributes:
        pictures: in the order of ``BothPictures``.
    """

    pictures: PictureParts
    table: TripletTable

    @cached_property
    def numbers(self) -> dict[str, int]:
        """URI -> a number for what it shows: a picture may be in many triplets."""
        return {uri: n for n, uri in enumerate(self.pictures.uris.unique().to_pylist())}

    def parts(self, steps: range) -> Generator[TripletBatch, None, None]:
        """Raises BadImage where not one triplet of a part can be read."""
        with closing(self.pictures(steps)) as parts:
            for step, part in zip(steps, parts, strict=True):
                yield self._batch(step, part)

    def _batch(self, step: int, part: Pictures) -> TripletBatch:
        total = len(self.table)
        place = {row: number for number, row in enumerate(part.rows)}
        rows = [row for row in part.rows if row < total and row + total in place]
        if not rows:
            first = f"{part.rejects[0].uri}: {part.rejects[0].reason}"
            raise BadImage(f"no triplet of step {step} can be read; the first: {first}")
        references = part.features.take([place[row] for row in rows])
        targets = part.features.pooled[[place[row + total] for row in rows]]
        shown, answers = (
            self.numbers_of(self.pictures.uris.take(np.array(rows) + start).to_pylist())
            for start in (0, total)
        )
        return TripletBatch(
            references, self.table.texts(rows), targets, shown, answers, part.rejects
        )

    def numbers_of(self, uris: list[str]) -> list[int]:
        """What pictures show; -1 for those that no triplet names."""
        return [self.numbers.get(uri, -1) for uri in uris]


@dataclass(frozen=True)
class BatchesWithTriplets:
    """Captioned pictures, followed by the reference pictures of composed queries."""

    batches: Batches
    triplets: TripletBatches
    samples: Samples

    def parts(self, steps: range) -> Generator[Batch, None, None]:
        """Raises BadImage where no picture, or no triplet, of a part can be read."""
        with (
            closing(self.batches.parts(steps)) as batches,
            closing(self.triplets.parts(steps)) as triplets,
        ):
            for batch, made in zip(batches, triplets, strict=True):
                yield self._joined(batch, made)

    def _joined(self, batch: Batch, made: TripletBatch) -> Batch:
        device, before = made.targets.device, len(batch.features)
        shown = self.triplets.numbers_of(self.samples.uris(batch.rows).to_pylist())
        triplets = Triplets(
            rows=list(range(before, before + len(made.texts))),
            texts=made.texts,
            targets=made.targets,
            answers=torch.tensor(made.answers, device=device),
            shown=torch.tensor([*shown, *made.shown], device=device),
        )
        return replace(
            batch,
            features=ImageFeatures.join([batch.features, made.references]),
            captions=[*batch.captions, *[None] * len(made.texts)],
            triplets=triplets,
            rejects=(*batch.rejects, *made.rejects),
        )
