"""The processes that train together, as the losses see them: a batch that is spread over them.

A global batch gives the same loss and the same gradients over any number of processes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor


class Alone:
    """One process: its batch is the whole batch."""

    rank = 0
    size = 1

    def gather(self, rows: Tensor) -> Tensor:
        """All rows of the global batch."""
        return rows

    def share(self, rows: int) -> float:
        """What a mean over the own rows weighs, so that the processes' average is the mean."""
        return 1.0 if rows else 0.0

    def average(self, values: Tensor) -> Tensor:
        """The processes' average, without gradients; for the log."""
        return values.detach()


class Together:
    """The processes of the default torch.distributed group, each with its part of the batch.

    Gradients are those of the sum over the processes; DistributedDataParallel averages them, and
    each process states the global loss, so what comes out is the global loss's own gradient.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def gather(self, rows: Tensor) -> Tensor:
        """``[n, ...]`` of each process -> ``[sum of n, ...]``, by rank, differentiable."""
        counts = self._counts(len(rows), rows.device)
        gathered: Tensor = _Gather.apply(rows, counts, self.rank)
        return gathered

    def share(self, rows: int) -> float:
        """What a mean over the own rows weighs, so that the processes' average is the mean."""
        counts = self._counts(rows, _device())
        return rows * self.size / max(1, sum(counts))

    def average(self, values: Tensor) -> Tensor:
        """The processes' average, without gradients; for the log."""
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def _counts(self, rows: int, device: torch.device) -> list[int]:
        counts = torch.zeros(self.size, dtype=torch.long, device=device)
        counts[self.rank] = rows
        dist.all_reduce(counts)
        return [int(count) for count in counts]


World = Alone | Together


class _Gather(torch.autograd.Function):
    """all_gather of parts of any length; backwards, the gradients of all processes add up."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor, counts: list[int], rank: int) -> Tensor:
        ctx.counts, ctx.rank = counts, rank
        padded = rows.new_zeros((max(counts), *rows.shape[1:]))
        padded[: len(rows)] = rows
        parts = [torch.empty_like(padded) for _ in counts]
        dist.all_gather(parts, padded)
        return torch.cat([part[:count] for part, count in zip(parts, counts)])

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].contiguous()
        dist.all_reduce(total)
        return total.split(ctx.counts)[ctx.rank], None, None


def _device() -> torch.device:
    """Where the group's collectives run."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
