"""What an engine reads for each step. Importable without torch, which a reader does not need."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from fti_training.fit.sampling_order import Parts


@dataclass(frozen=True)
class StepBlocks:
    """A block for each step: the rows and URIs of one process's part."""

    uris: pa.ChunkedArray
    order: Parts
    steps: range
    rank: int
    size: int

    def __len__(self) -> int:
        return len(self.steps)

    def block(self, number: int) -> pa.Table:
        rows = pa.array(self.order.part(self.steps[number], self.rank, self.size))
        return pa.table({"row": rows, "uri": self.uris.take(rows)})
