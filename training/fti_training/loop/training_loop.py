"""The training loop: updates from the newest checkpoint to the last step."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from fti_training.loop.best_figure import EarlyStopping, best_step
from fti_training.loop.context import RunContext
from fti_training.loop.events import Began, Stepped, Stopped, Validated
from fti_training.loop.state import TrainingState
from fti_training.loop.update import Update

Figures = dict[str, float]


@dataclass(frozen=True)
class StepResult:
    """What one step gives.

    Attributes:
        total: what is minimized.
        figures: its parts, for the log. Called at logged steps only, in every process of a group.
    """

    total: Tensor
    figures: Callable[[], Figures]


Losses = Generator[StepResult, None, None]


@dataclass
class TrainingLoop:
    """Trains to the end, from wherever the newest checkpoint left off.

    A step depends on the weights and on its number alone (it seeds itself), so a run that was
    killed and resumed ends with the weights of an undisturbed one.

    Attributes:
        steps: of the whole run.
        batch: samples of one step, for the rate in the log.
        log_every, checkpoint_every: steps; the last step is always logged and kept.
        validate: figures of the weights at a checkpoint; called where the context leads.
        before_checkpoint: called in every process, before it is written.
        stopping: ends the run early; it looks at the validations, so after a checkpoint only.
        agree: called in every process, whether this one wants to stop -> whether any does.
    """

    state: TrainingState[Any]
    update: Update
    context: RunContext
    steps: int
    batch: int
    log_every: int
    checkpoint_every: int
    validate: Callable[[], Figures] | None = None
    before_checkpoint: Callable[[], None] = lambda: None
    stopping: EarlyStopping | None = None
    agree: Callable[[bool], bool] = bool

    def run(self, losses: Callable[[range], Losses]) -> None:
        """Trains.

        Args:
            losses: the numbers of the steps to do -> the loss of each, as the weights then are.

        Raises:
            CheckpointError: the newest checkpoint is damaged or of another run, or a loss is not
                finite.
            OutputUnavailable: a checkpoint cannot be written.
        """
        self.context.restore(self.state.restore)
        if self.context.leads:
            self.context.report(Began(self.state.step))
        if self._stops():  # a run that had ended early
            return
        numbers = range(self.state.step, self.steps)
        rate = Rate(self.batch, self.state.step)
        with closing(losses(numbers)) as steps:
            for number, loss in zip(numbers, steps, strict=True):
                self.update(loss.total, number)
                self.state.advance()
                if self._due(self.log_every):
                    self._log(loss, rate(self.state.step))
                if self._due(self.checkpoint_every):
                    self._checkpoint()
                    if self._stops():
                        break
                    rate.restart(self.state.step)

    def _stops(self) -> bool:
        """Whether the run ends here, before its last step; alike in every process."""
        if self.stopping is None or self.state.step == self.steps:
            return False
        validated = self.state.validated
        wants = self.context.leads and self.stopping.reached(validated)
        if not self.agree(wants):
            return False
        best = best_step(validated, self.stopping.figure)
        if self.context.leads and best is not None:
            self.context.report(Stopped(self.state.step, best))
        return True

    def _due(self, every: int) -> bool:
        return self.state.step % every == 0 or self.state.step == self.steps

    def _log(self, loss: StepResult, rate: float) -> None:
        figures = loss.figures()
        if self.context.leads:
            lr = self.state.optimizer.param_groups[0]["lr"]
            row = {**figures, "images_per_s": rate, "lr": lr}
            self.context.report(Stepped(self.state.step, row))

    def _checkpoint(self) -> None:
        self.before_checkpoint()
        figures: Figures = {}
        if self.context.leads and self.validate is not None:
            figures = self.validate()
            self.state.validated[self.state.step] = figures
            self.context.report(Validated(self.state.step, figures))
        self.context.checkpoint(self.state.step, figures, self.state.save)


class Rate:
    """Samples per second since the last time it was asked."""

    def __init__(self, batch: int, step: int):
        self.batch = batch
        self.restart(step)

    def restart(self, step: int) -> None:
        self.began, self.since = time.monotonic(), step

    def __call__(self, step: int) -> float:
        seconds = time.monotonic() - self.began
        done = (step - self.since) * self.batch
        self.restart(step)
        return done / max(seconds, 1e-9)
