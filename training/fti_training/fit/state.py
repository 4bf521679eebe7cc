"""What a training run is made of, and its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import save_inverter
from fti_training.fit.config import FitConfig
from fti_training.loop import checkpoint_file as checkpoint
from fti_training.precision import scaler

STATE = "state.safetensors"
INVERTER = "inverter"


@dataclass
class State:
    """Weights, optimizer and place of a run.

    Attributes:
        average: moving average of the weights, if the run keeps one.
        step: steps done.
    """

    inverter: Inverter
    average: AveragedModel | None
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    step: int = 0

    @staticmethod
    def fresh(config: FitConfig, backbone: Backbone) -> State:
        """Before the first step; the seed decides the weights."""
        torch.manual_seed(config.seed)
        inverter = Inverter.for_backbone(
            backbone,
            latents=config.latents,
            layers=config.layers,
            topk=config.topk,
            epsilon=config.epsilon,
            dropout=config.dropout,
            project_relevance=config.project_relevance,
        ).to(backbone.device)
        average = None
        if config.average is not None:
            averaging = get_ema_multi_avg_fn(config.average)
            average = AveragedModel(inverter, multi_avg_fn=averaging)
        optimizer = torch.optim.AdamW(
            inverter.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        return State(inverter, average, optimizer, scaler(config.precision, backbone.device.type))

    @property
    def kept(self) -> Inverter:
        """The weights that the run is after: the moving average, or the last ones."""
        if self.average is None:
            return self.inverter
        averaged: Inverter = self.average.module  # type: ignore[assignment]
        return averaged

    def stepped(self) -> None:
        """After each update."""
        self.step += 1
        if self.average is not None:
            self.average.update_parameters(self.inverter)

    def save(self, folder: Path) -> None:
        """A checkpoint to resume from, and beside it the inverter to use."""
        facts = {"step": self.step, "scaler": self.scaler.state_dict()}
        checkpoint.save(folder / STATE, self._modules(), self.optimizer, facts)
        save_inverter(self.kept, folder / INVERTER)

    def restore(self, folder: Path) -> None:
        """Raises CheckpointError where the checkpoint is damaged or of other sizes."""
        facts = checkpoint.load(folder / STATE, self._modules(), self.optimizer)
        self.step = int(facts["step"])
        if self.scaler.is_enabled():
            self.scaler.load_state_dict(facts["scaler"])

    def _modules(self) -> nn.Module:
        parts: dict[str, nn.Module] = {"inverter": self.inverter}
        if self.average is not None:
            parts["average"] = self.average
        return nn.ModuleDict(parts)
