"""The state of ``fti-train fit``: an inverter in training, and its checkpoints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import save_inverter
from fti_training.fit.config import FitConfig
from fti_training.loop.state import TrainingState, moving_average
from fti_training.precision import scaler

INVERTER = "inverter"


@dataclass
class InverterState(TrainingState[Inverter]):
    """An inverter in training."""

    @classmethod
    def initial(cls, config: FitConfig, backbone: Backbone) -> InverterState:
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
        optimizer = torch.optim.AdamW(
            inverter.parameters(), lr=config.lr, weight_decay=config.weight_decay, fused=True
        )
        average = moving_average(inverter, config.average) if config.average is not None else None
        scaling = scaler(config.precision, backbone.device.type)
        return cls(inverter, optimizer, average, scaling, config.identity())

    def save(self, folder: Path) -> None:
        """A checkpoint to resume from, and beside it the inverter to use."""
        super().save(folder)
        save_inverter(self.kept, folder / INVERTER)
