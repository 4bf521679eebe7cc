"""One update of the weights, and the learning rates over a run."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from fti_qdrant.errors import CheckpointError


class Schedule(Protocol):
    """The learning rate of each step."""

    def at(self, step: int) -> float: ...


@dataclass(frozen=True)
class Cosine:
    """Linear warm-up, then a cosine to zero.

    Attributes:
        steps: of the whole run.
        lr: the peak.
    """

    steps: int
    lr: float
    warmup: int

    def at(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.lr * 0.5 * (1 + math.cos(math.pi * done))


@dataclass(frozen=True)
class Decay:
    """Linear warm-up, then the official schedule: ``lr``, and a fraction of it from a given step.

    Attributes:
        decay_at: first step of the lower rate (FTI4CIR: epoch 10).
        factor: the lower rate divided by ``lr`` (FTI4CIR: 0.1).
    """

    lr: float
    warmup: int
    decay_at: int
    factor: float

    def at(self, step: int) -> float:
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        return self.lr * (self.factor if step >= self.decay_at else 1.0)


@dataclass
class Update:
    """Loss -> updated weights: gradients, clipping, the optimizer's step.

    Attributes:
        name: of the run, for messages.
        clip: gradients are scaled down to this norm.
        scaler: for float16; disabled otherwise.
    """

    name: str
    parameters: Iterable[nn.Parameter]
    optimizer: torch.optim.Optimizer
    schedule: Schedule
    clip: float
    scaler: torch.amp.GradScaler | None = None

    def __post_init__(self) -> None:
        self.parameters = list(self.parameters)

    def __call__(self, loss: Tensor, number: int) -> None:
        """Makes step ``number``. Raises CheckpointError where loss or gradient is not finite."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.schedule.at(number)
        self._check_finite("loss", loss.detach(), number)
        self.optimizer.zero_grad(set_to_none=True)
        if self.scaler is not None and self.scaler.is_enabled():
            self._scaled(loss, self.scaler)
            return
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, self.clip)
        self._check_finite("gradient's norm", norm, number)
        self.optimizer.step()

    def _scaled(self, loss: Tensor, scaler: torch.amp.GradScaler) -> None:
        """float16 overflows at times; the scaler then skips the step and lowers its scale."""
        scaler.scale(loss).backward()
        scaler.unscale_(self.optimizer)
        nn.utils.clip_grad_norm_(self.parameters, self.clip)
        scaler.step(self.optimizer)
        scaler.update()

    def _check_finite(self, what: str, value: Tensor, number: int) -> None:
        if not torch.isfinite(value):
            raise CheckpointError(
                f"{self.name}: the {what} is {float(value)} at step {number}; "
                "the last checkpoint is kept, try a lower learning rate"
            )
