"""The composed queries of each step, with the pictures that answer them."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch

from fti_ingest.sources.source import Reject
from fti_qdrant.errors import FtiError
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
class TripletBatches:
    """Triplets of one process whose two pictures can be read, of each step.

    The others are left out, and the pictures listed.

    Attributes:
        pictures: in the order of ``BothPictures``.
    """

    pictures: PictureParts
    table: TripletTable

    def parts(self, steps: range) -> Generator[tuple[Triplets, tuple[Reject, ...]], None, None]:
        """The triplets, whose reference pictures are their ``others``; the pictures to list."""
        with closing(self.pictures(steps)) as parts:
            for part in parts:
                yield self._triplets(part), part.rejects

    def _triplets(self, part: Pictures) -> Triplets:
        total, device = len(self.table), part.features.pooled.device
        place = {row: number for number, row in enumerate(part.rows)}
        rows = [row for row in part.rows if row < total and row + total in place]
        targets = [row + total for row in rows]
        pictures, queries = self.table.picture_numbers, self.table.query_numbers
        number = partial(torch.tensor, dtype=torch.long, device=device)
        return Triplets(
            rows=list(range(len(rows))),
            texts=self.table.texts(rows),
            targets=part.features.pooled[[place[row] for row in targets]],
            asked=number([queries[row] for row in rows]),
            answers=number([pictures[row] for row in targets]),
            shown=number([pictures[row] for row in rows]),
            others=part.features.take([place[row] for row in rows]) if rows else None,
        )


@dataclass(frozen=True)
class BatchesWithTriplets:
    """Captioned pictures, with composed queries whose references are others."""

    batches: Batches
    triplets: TripletBatches
    samples: Samples

    def parts(self, steps: range) -> Generator[Batch, None, None]:
        """Raises BadImage where no picture with a caption can be read in a part."""
        with (
            closing(self.batches.parts(steps)) as batches,
            closing(self.triplets.parts(steps)) as parts,
        ):
            for batch, (triplets, rejects) in zip(batches, parts, strict=True):
                yield replace(
                    batch,
                    triplets=self._behind(batch, triplets),
                    rejects=(*batch.rejects, *rejects),
                )

    def _behind(self, batch: Batch, triplets: Triplets) -> Triplets:
        """The triplets, whose references come after the pictures of the batch."""
        uris = self.samples.uris(batch.rows).to_pylist()
        shown = triplets.shown.new_tensor(self.triplets.table.numbers_of(uris))
        rows = [len(uris) + row for row in triplets.rows]
        return replace(triplets, rows=rows, shown=torch.cat([shown, triplets.shown]))
