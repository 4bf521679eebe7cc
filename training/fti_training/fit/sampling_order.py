"""Which samples make up which batch: a pure function of the seed and the step's number."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt

from fti_qdrant.errors import FtiError

Rows = npt.NDArray[np.int64]


class Parts(Protocol):
    """Which samples one of several processes takes at each step."""

    @property
    def batch(self) -> int: ...

    def part(self, step: int, rank: int, size: int) -> Rows: ...


@dataclass
class SamplingOrder:
    """Shuffles each epoch by itself and cuts it into whole batches; the remainder is dropped.

    A resumed run, or one with another number of workers, gets the batches of an undisturbed one.

    Attributes:
        samples: how many there are to train on.
        batch: of all workers together.
        chosen: their numbers, where they are a part of all samples; None for all.
    """

    samples: int
    batch: int
    seed: int
    chosen: Rows | None = None
    _epoch: int = field(default=-1, init=False)
    _shuffled: Rows = field(default_factory=lambda: np.empty(0, np.int64), init=False)

    def __post_init__(self) -> None:
        """Raises FtiError where not even one batch can be filled."""
        if self.samples < self.batch:
            raise FtiError(
                f"{self.samples} samples do not fill a batch of {self.batch}; "
                f"caption more pictures, or set batch={max(2, self.samples)} or less"
            )

    @property
    def steps_per_epoch(self) -> int:
        return self.samples // self.batch

    def rows(self, step: int) -> Rows:
        """``[batch]``, the samples of a step."""
        epoch, number = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            generator = np.random.default_rng([self.seed, epoch])
            self._epoch, self._shuffled = epoch, generator.permutation(self.samples)
        rows = self._shuffled[number * self.batch : (number + 1) * self.batch]
        return rows if self.chosen is None else self.chosen[rows]

    @classmethod
    def over(cls, chosen: Rows, total: int, batch: int, seed: int) -> SamplingOrder:
        """Of the chosen ones among ``total`` samples. Raises as the constructor."""
        return cls(len(chosen), batch, seed, None if len(chosen) == total else chosen)

    def part(self, step: int, rank: int, size: int) -> Rows:
        """``[batch / size]``, the part of a step that one of ``size`` workers takes."""
        own = self.batch // size
        return self.rows(step)[rank * own : (rank + 1) * own]
