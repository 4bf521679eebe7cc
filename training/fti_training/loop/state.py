"""What changes while a model is trained: weights, their average, the optimizer, the step."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fti_qdrant.errors import CheckpointError
from fti_training.loop import checkpoint_file

FILE = "state.safetensors"

Model = TypeVar("Model", bound=nn.Module)


@dataclass
class TrainingState(Generic[Model]):
    """Everything that a checkpoint holds.

    Attributes:
        average: moving average of the weights, if the run keeps one.
        scaler: for float16; disabled otherwise.
        identity: the settings that a checkpoint must share with this run.
        step: steps done.
        validated: step -> the figures of its validation, from the start of the run.
    """

    model: Model
    optimizer: torch.optim.Optimizer
    average: AveragedModel | None = None
    scaler: torch.amp.GradScaler | None = None
    identity: dict[str, object] = field(default_factory=dict)
    step: int = 0
    validated: dict[int, dict[str, float]] = field(default_factory=dict)

    @property
    def kept(self) -> Model:
        """The weights that the run is after: the moving average, or the last ones."""
        if self.average is None:
            return self.model
        averaged: Model = self.average.module  # type: ignore[assignment]
        return averaged

    def advance(self) -> None:
        """Counts an update of the weights, and takes it into the average."""
        self.step += 1
        if self.average is not None:
            self.average.update_parameters(self.model)

    def save(self, folder: Path) -> None:
        """Writes a checkpoint to resume from. Raises OSError or SafetensorError."""
        facts: dict[str, object] = {
            "step": self.step,
            "identity": self.identity,
            "validated": self.validated,
        }
        if self.scaler is not None:
            facts["scaler"] = self.scaler.state_dict()
        checkpoint_file.save(folder / FILE, self._modules(), self.optimizer, facts)

    def restore(self, folder: Path) -> None:
        """Raises CheckpointError where the checkpoint is damaged, or belongs to another run."""
        facts = checkpoint_file.load(folder / FILE, self._modules(), self.optimizer)
        check_same_settings(str(folder), dict(facts["identity"]), self.identity)
        self.step = int(facts["step"])
        validated = facts.get("validated", {})  # missing in checkpoints of earlier versions
        self.validated = {int(step): dict(figures) for step, figures in validated.items()}
        if self.scaler is not None and self.scaler.is_enabled():
            self.scaler.load_state_dict(facts["scaler"])

    def _modules(self) -> nn.Module:
        parts: dict[str, nn.Module] = {"model": self.model}
        if self.average is not None:
            parts["average"] = self.average
        return nn.ModuleDict(parts)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of a model's weights (EMA)."""
    return AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(decay))


def check_same_settings(
    where: str, then: dict[str, object], now: dict[str, object], hint: str = ""
) -> None:
    """Raises CheckpointError where a run would resume with other settings.

    Args:
        hint: what a resumed run may change, for the message.
    """
    changed = [name for name, value in now.items() if then.get(name) != value]
    if changed:
        before = ", ".join(f"{name} was {then.get(name)}" for name in changed)
        raise CheckpointError(
            f"{where} belongs to a run with other settings ({before}); pass the same settings, or "
            f"train into another --out{hint}"
        )
