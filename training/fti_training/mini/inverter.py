"""Trains the mini inverter on the frozen mini backbone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from fti_qdrant.benchmarks.emoji.facts import Emoji
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.inverter import Inverter
from fti_training.loop.state import TrainingState
from fti_training.loop.training_loop import Figures, Losses, StepResult
from fti_training.loop.update import Cosine
from fti_training.mini.config import MiniConfig
from fti_training.mini.phase import train_phase
from fti_training.mini.pictures import TrainingSet
from fti_training.precision import autocast
from fti_training.split_caption import SplitCaption
from fti_training.step import InverterStep

FEATURES_BATCH = 512


def train_inverter(
    config: MiniConfig,
    backbone: Backbone,
    data: TrainingSet,
    folder: Path,
    validate: Callable[[Inverter], Figures],
) -> Inverter:
    """Trains an inverter with the losses of FTI4CIR, resuming from ``folder``."""
    torch.manual_seed(config.seed)
    inverter = Inverter.for_backbone(backbone).to(backbone.device)
    features = ImageFeatures.join(
        [backbone.pixel_features(chunk) for chunk in data.pixels.split(FEATURES_BATCH)]
    )
    captions = [split_caption(emoji) for emoji in data.emoji]
    step = InverterStep(backbone, inverter)
    batches = data.numbered_batches(config.batch, config.seed)

    def losses(steps: range) -> Losses:
        for number in steps:
            inverter.train()
            torch.manual_seed(number)
            chosen = batches(number)
            batch = features.take(chosen)
            with autocast(config.precision, backbone.device.type):
                loss = step(batch, [captions[index] for index in chosen])
            yield StepResult(loss.total, loss.figures)

    optimizer = torch.optim.AdamW(
        inverter.parameters(),
        lr=config.inverter_lr,
        weight_decay=config.inverter_weight_decay,
        fused=True,
    )
    identity = {**config.identity(), "backbone": backbone.fingerprint.weights}
    state = TrainingState(inverter, optimizer, identity=identity)
    schedule = Cosine(config.inverter_steps, config.inverter_lr, config.inverter_warmup)
    train_phase(
        "inverter", folder, config, state, schedule, losses, lambda: validate(inverter.eval())
    )
    return inverter.eval()


def split_caption(emoji: Emoji) -> SplitCaption | None:
    """Subject and attributes as the sequence states them; None where it states no attribute."""
    if not emoji.attributes:
        return None
    return SplitCaption(emoji.subject, " ".join(emoji.attributes))
