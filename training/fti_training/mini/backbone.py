"""Trains the mini backbone: a small CLIP on emoji pictures and captions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset

from fti_qdrant.errors import CheckpointError, first_line
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.tokens import Tokens, Vocabulary
from fti_training.augment import jittered
from fti_training.loop.state import TrainingState, moving_average
from fti_training.loop.training_loop import Figures, Losses, StepResult
from fti_training.loop.update import Cosine
from fti_training.mini.captions import Captioner
from fti_training.mini.clip_loss import CAPTION_LENGTH, ClipLoss, fastest
from fti_training.mini.config import MiniConfig
from fti_training.mini.phase import train_phase
from fti_training.mini.pictures import TrainingSet

DESCRIPTION, WEIGHTS = "open_clip_config.json", "open_clip_model.safetensors"
"""The files that open_clip reads."""

VISUAL_TOWER = "visual."
"""Beginning of the names of its weights in open_clip."""

CAPTION_WORKERS = 2
"""Processes that write captions while a GPU trains."""


def fresh_clip(config: MiniConfig) -> nn.Module:
    """An untrained open_clip model of the config's sizes."""
    torch.manual_seed(config.seed)
    description = config.open_clip()
    model = open_clip.CLIP(**description["model_cfg"])
    model.visual.preprocess_cfg = description["preprocess_cfg"]
    return model


def wrap(model: nn.Module, name: str = "mini") -> Backbone:
    """An open_clip model of ours as a backbone; both share the same weights."""
    return Backbone(model, open_clip.tokenizer.SimpleTokenizer(), name)


@dataclass(frozen=True)
class BackbonePhase:
    """One phase of the backbone's training.

    Attributes:
        name: of its folder.
        first_step: steps of the phases before it; the seed of a step is its number in all phases.
        average: decay of the moving average of the weights, which is kept.
        edit_share: of the captions, those that describe the picture as an edit of another.
        fields: the settings that its weights depend on, beside the weights that it starts from.
        mirrors: whether it sees mirror images of animals too, "facing right".
        frozen: beginning of the names of the weights that it leaves as they are, if any.
    """

    name: str
    first_step: int
    schedule: Cosine
    average: float
    edit_share: float
    fields: frozenset[str]
    mirrors: bool = True
    frozen: str | None = None

    @classmethod
    def backbone(cls, config: MiniConfig) -> BackbonePhase:
        schedule = Cosine(config.backbone_steps, config.backbone_lr, config.backbone_warmup)
        share, fields = config.backbone_edit_share, frozenset(BACKBONE_FIELDS)
        return cls("backbone", 0, schedule, config.backbone_average, share, fields, False)

    @classmethod
    def finish(cls, config: MiniConfig) -> BackbonePhase:
        schedule = Cosine(config.finish_steps, config.finish_lr, config.finish_warmup)
        average, share = config.finish_average, config.backbone_edit_share
        fields = frozenset(BACKBONE_FIELDS | FINISH_FIELDS)
        return cls("finish", config.backbone_steps, schedule, average, share, fields)

    @classmethod
    def wordings(cls, config: MiniConfig) -> BackbonePhase:
        """Of the text tower alone, which is a quarter of the time of a step of both towers."""
        schedule = Cosine(config.wordings_steps, config.wordings_lr, config.wordings_warmup)
        average, share = config.wordings_average, config.wordings_edit_share
        fields, first = frozenset(WORDINGS_FIELDS), config.backbone_steps + config.finish_steps
        return cls("wordings", first, schedule, average, share, fields, frozen=VISUAL_TOWER)

    def prepare(self, model: nn.Module) -> None:
        """Makes all weights trainable but for the frozen ones."""
        for name, value in model.named_parameters():
            value.requires_grad_(self.frozen is None or not name.startswith(self.frozen))


def phases(config: MiniConfig) -> tuple[BackbonePhase, ...]:
    """All of them, in their order."""
    made = (BackbonePhase.backbone, BackbonePhase.finish, BackbonePhase.wordings)
    return tuple(make(config) for make in made)


@dataclass
class CaptionedBatches(Dataset[tuple[list[int], Tokens]]):
    """Step -> the pictures of its batch, and a new caption of each as tokens.

    Attributes:
        batch: of a step, for growing numbers of steps.
        first_step: of the phase; a step's captions are seeded by its number in all phases.
    """

    data: TrainingSet
    captioner: Captioner
    vocabulary: Vocabulary
    batch: Callable[[int], list[int]]
    seed: int
    first_step: int

    @classmethod
    def of(
        cls, config: MiniConfig, phase: BackbonePhase, data: TrainingSet, vocabulary: Vocabulary
    ) -> CaptionedBatches:
        captioner = Captioner(
            data.distinct, vocabulary, random.Random(config.seed), phase.edit_share
        )
        batch = data.numbered_batches(config.batch, config.seed + phase.first_step)
        return cls(data, captioner, vocabulary, batch, config.seed, phase.first_step)

    def __getitem__(self, number: int) -> tuple[list[int], Tokens]:
        self.captioner.rng.seed(f"{self.seed}/captions/{self.first_step + number}")
        chosen = self.batch(number)
        room = CAPTION_LENGTH - 2
        lines = [self.captioner.tokens(self.data.emoji[index])[:room] for index in chosen]
        return chosen, self.vocabulary.assemble([([], line) for line in lines])

    def from_workers(self, steps: range, device: str) -> Iterable[tuple[list[int], Tokens]]:
        """One after the other; beside a GPU, which would wait, other processes write captions."""
        workers = CAPTION_WORKERS if device == "cuda" else 0
        return DataLoader(
            self, batch_size=None, sampler=steps, num_workers=workers, collate_fn=_unchanged
        )


def _unchanged(batch: Any) -> Any:
    """A batch is made at once, and not of single samples."""
    return batch


def train_backbone(
    config: MiniConfig,
    phase: BackbonePhase,
    model: nn.Module,
    data: TrainingSet,
    folder: Path,
    validate: Callable[[Backbone], Figures],
) -> None:
    """Trains ``model`` in place for one phase, resuming from ``folder``.

    Args:
        validate: figures of the averaged backbone, called at each checkpoint.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = wrap(model.to(device)).to(device).train()  # the scale is not a part of a Backbone
    identity = {**config.identity(set(phase.fields)), "start": backbone.fingerprint.weights}
    phase.prepare(model)  # a Backbone freezes what it wraps
    average = moving_average(model, phase.average)
    captioned = CaptionedBatches.of(config, phase, data, backbone.vocabulary)
    pictures = data.pixels.to(device)
    clip_loss = ClipLoss(backbone, model.get_parameter("logit_scale"), config.precision).train()
    loss_of = fastest(clip_loss, config.batch)

    def losses(steps: range) -> Losses:
        for number, (chosen, tokens) in zip(steps, captioned.from_workers(steps, device)):
            generator = torch.Generator().manual_seed(phase.first_step + number)
            pixels = backbone.preprocess.normalize(jittered(pictures[chosen], generator))
            loss = loss_of(pixels, tokens)
            figures = {"loss": loss.detach(), "scale": clip_loss.scale().detach()}
            yield StepResult(loss, lambda: {name: float(one) for name, one in figures.items()})  # noqa: B023

    def validated() -> Figures:
        with torch.inference_mode():
            return validate(wrap(average.module.eval()).to(device))

    optimizer = _optimizer(model, config, phase.schedule.lr)
    state = TrainingState(model, optimizer, average, identity=identity)
    train_phase(phase.name, folder, config, state, phase.schedule, losses, validated, config.batch)
    model.load_state_dict(average.module.state_dict())
    model.requires_grad_(False).eval()


LATER = ("finish", "wordings", "inverter")
BACKBONE_FIELDS = {name for name in MiniConfig.model_fields if not name.startswith(LATER)}
"""The settings that the weights of the first phase depend on."""

FINISH_FIELDS = {name for name in MiniConfig.model_fields if name.startswith("finish")}
WORDINGS_FIELDS = {
    *(name for name in MiniConfig.model_fields if name.startswith("wordings")),
    *("seed", "batch", "pictures", "precision", "backbone_weight_decay"),
}


def load_open_clip(config: MiniConfig, model: nn.Module, folder: Path) -> None:
    """Reads the weights that ``save_open_clip`` wrote.

    Raises CheckpointError where the folder has none, or those of a model of other sizes.
    """
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        halves = load_file(folder / WEIGHTS)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(
            f"{folder}: no backbone of fti-train mini can be read: {first_line(error)}"
        ) from error
    if description != config.open_clip():
        raise CheckpointError(
            f"{folder}: its backbone has other sizes ({description.get('model_cfg')}) than the "
            f"settings ({config.open_clip()['model_cfg']}); --set them as it was trained"
        )
    model.load_state_dict({name: value.float() for name, value in halves.items()})


def save_open_clip(config: MiniConfig, model: nn.Module, folder: Path) -> None:
    """Writes a folder that open_clip loads as ``local-dir:``, weights in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / DESCRIPTION).write_text(json.dumps(config.open_clip(), indent=2) + "\n")
    halves = {name: value.half().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(halves, folder / WEIGHTS)


def _optimizer(model: nn.Module, config: MiniConfig, lr: float) -> torch.optim.Optimizer:
    """AdamW; gains, biases and embeddings are not decayed, as in CLIP's training."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, value in model.named_parameters():
        if not value.requires_grad:
            continue
        matrix = value.ndim >= 2 and "embedding" not in name
        (decayed if matrix else plain).append(value)
    groups = [
        {"params": decayed, "weight_decay": config.backbone_weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
