"""Trains the mini inverter on the frozen mini backbone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fti_qdrant.benchmarks.emoji.facts import Emoji
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.inverter import Inverter
from fti_training.loop.training_loop import Loop, Parts
from fti_training.loop.update import Cosine
from fti_training.mini.config import MiniConfig
from fti_training.mini.pictures import TrainingSet
from fti_training.precision import autocast
from fti_training.step import InverterStep, SplitCaption

FEATURES_BATCH = 512


def train_inverter(
    config: MiniConfig,
    backbone: Backbone,
    data: TrainingSet,
    folder: Path,
    probe: Callable[[Inverter], Parts],
) -> Inverter:
    """Trains an inverter with the losses of FTI4CIR, resuming from ``folder``."""
    torch.manual_seed(config.seed)
    inverter = Inverter.for_backbone(backbone).to(backbone.device)
    features = ImageFeatures.join(
        [backbone.pixel_features(chunk) for chunk in data.pixels.split(FEATURES_BATCH)]
    )
    captions = [split_caption(emoji) for emoji in data.emoji]
    losses = InverterStep(backbone, inverter)
    batches = data.numbered_batches(config.batch, config.seed)

    def step(number: int) -> tuple[Tensor, Parts]:
        inverter.train()
        torch.manual_seed(number)
        chosen = batches(number)
        batch = ImageFeatures(features.pooled[chosen], features.tokens[chosen])
        with autocast(config.precision, backbone.device.type):
            loss = losses(batch, [captions[index] for index in chosen])
        return loss.total, loss.log()

    loop = Loop(
        name="inverter",
        folder=folder,
        module=inverter,
        optimizer=torch.optim.AdamW(
            inverter.parameters(),
            lr=config.inverter_lr,
            weight_decay=config.inverter_weight_decay,
            fused=True,
        ),
        schedule=Cosine(config.inverter_steps, config.inverter_lr, config.inverter_warmup),
        every=config.checkpoint_every,
        identity={
            **config.model_dump(exclude_none=True, exclude={"checkpoint_every"}),
            "backbone": backbone.fingerprint.weights,
        },
        probe=lambda: probe(inverter.eval()),
    )
    loop.run(step)
    return inverter.eval()


def split_caption(emoji: Emoji) -> SplitCaption | None:
    """Subject and attributes as the sequence states them; None where it states no attribute."""
    if not emoji.attributes:
        return None
    return SplitCaption(emoji.subject, " ".join(emoji.attributes))
