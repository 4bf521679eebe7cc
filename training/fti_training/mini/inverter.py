"""Trains the mini inverter on the frozen mini backbone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fti_qdrant.benchmarks.emoji.facts import Emoji
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.inverter import Inverter
from fti_training.augment import jittered
from fti_training.loop.state import TrainingState, moving_average
from fti_training.loop.training_loop import Figures, Losses, StepResult
from fti_training.loop.update import Cosine
from fti_training.mini.config import MiniConfig
from fti_training.mini.phase import train_phase
from fti_training.mini.pictures import TrainingSet
from fti_training.mini.triplets import TripletWriter
from fti_training.precision import autocast
from fti_training.split_caption import SplitCaption
from fti_training.step import InverterStep, Weights

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
    inverter = Inverter.for_backbone(backbone, epsilon=config.inverter_epsilon)
    inverter.to(backbone.device)
    features = features_of(backbone, data.pixels)
    captions = [split_caption(emoji) for emoji in data.emoji]
    step = InverterStep(backbone, inverter, weights_of(config))
    triplets = TripletWriter.of(config, backbone, data, features) if step.weights.triplet else None
    batches = data.numbered_batches(config.inverter_batch, config.seed)
    pictures = data.pixels.to(backbone.device)

    def seen(chosen: list[int], number: int) -> ImageFeatures:
        if not config.inverter_jitter:
            return features.take(chosen)
        generator = torch.Generator().manual_seed(number)
        return backbone.pixel_features(jittered(pictures[chosen], generator))

    def losses(steps: range) -> Losses:
        for number in steps:
            inverter.train()
            torch.manual_seed(number)
            chosen = batches(number)
            queries = triplets(chosen, number) if triplets else None
            batch = seen(chosen, number)
            with autocast(config.precision, backbone):
                loss = step(batch, [captions[index] for index in chosen], triplets=queries)
            yield StepResult(loss.total, loss.figures)

    optimizer = torch.optim.AdamW(
        inverter.parameters(),
        lr=config.inverter_lr,
        weight_decay=config.inverter_weight_decay,
        fused=True,
    )
    average = moving_average(inverter, config.inverter_average) if config.inverter_average else None
    identity = {**config.identity(), "backbone": backbone.fingerprint.weights}
    state = TrainingState(inverter, optimizer, average, identity=identity)
    schedule = Cosine(config.inverter_steps, config.inverter_lr, config.inverter_warmup)

    def validated() -> Figures:
        return validate(state.kept.eval())

    batch = config.inverter_batch
    train_phase("inverter", folder, config, state, schedule, losses, validated, batch)
    return state.kept.eval()


def weights_of(config: MiniConfig) -> Weights:
    """Of the losses; those of FTI4CIR but for what the config changes."""
    return Weights(
        temperature=config.inverter_temperature,
        triplet=config.inverter_triplet_weight,
        triplet_temperature=config.inverter_triplet_temperature,
    )


def features_of(backbone: Backbone, pixels: Tensor) -> ImageFeatures:
    """Features of all pictures, as they are drawn."""
    return ImageFeatures.join(
        [backbone.pixel_features(chunk) for chunk in pixels.split(FEATURES_BATCH)]
    )


def split_caption(emoji: Emoji) -> SplitCaption | None:
    """Subject and attributes as the sequence states them; None where it states no attribute."""
    if not emoji.attributes:
        return None
    return SplitCaption(emoji.subject, " ".join(emoji.attributes))
