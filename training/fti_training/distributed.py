"""The processes that train together, as the losses need them: one batch, spread over them.

A global batch gives the same loss and the same gradients over any number of processes.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor


class ProcessGroup(Protocol):
    """The processes among which a batch is divided.

    Attributes:
        rank: number of this process, from 0.
        size: how many there are.
    """

    rank: int
    size: int

    def gather(self, rows: Tensor) -> Tensor:
        """``[n, ...]`` of each process -> ``[sum of n, ...]``, by rank, differentiable."""
        ...

    def mean_weight(self, rows: int) -> float:
        """Weight of a mean over this process's rows.

        With it the average over the processes is the mean over all rows.
        """
        ...

    def average(self, values: Tensor) -> Tensor:
        """Average over the processes, without gradients; for the log."""
        ...

    def any(self, value: bool) -> bool:
        """Whether it is so in any of the processes."""
        ...


class SingleProcess:
    """One process: its batch is the whole batch."""

    rank = 0
    size = 1

    def gather(self, rows: Tensor) -> Tensor:
        return rows

    def mean_weight(self, rows: int) -> float:
        return 1.0 if rows else 0.0

    def average(self, values: Tensor) -> Tensor:
        return values.detach()

    def any(self, value: bool) -> bool:
        return value


class DistributedGroup:
    """The processes of the default torch.distributed group, each with its part of the batch.

    Each process computes the global loss. ``gather`` sums its gradients over the processes, and
    DistributedDataParallel averages them, so the result is the gradient of the global loss.
    """

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.size = dist.get_world_size()

    def gather(self, rows: Tensor) -> Tensor:
        counts = self._counts(len(rows), rows.device)
        gathered: Tensor = _Gather.apply(rows, counts, self.rank)
        return gathered

    def mean_weight(self, rows: int) -> float:
        counts = self._counts(rows, _device())
        return rows * self.size / max(1, sum(counts))

    def average(self, values: Tensor) -> Tensor:
        total = values.detach().clone()
        dist.all_reduce(total)
        return total / self.size

    def any(self, value: bool) -> bool:
        return any(self._counts(int(value), _device()))

    def _counts(self, rows: int, device: torch.device) -> list[int]:
        counts = torch.zeros(self.size, dtype=torch.long, device=device)
        counts[self.rank] = rows
        dist.all_reduce(counts)
        return [int(count) for count in counts]


class _Gather(torch.autograd.Function):
    """all_gather of parts of any length; its backward sums the gradients of all processes."""

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
