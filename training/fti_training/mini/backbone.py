"""Trains the mini backbone: a small CLIP on emoji pictures and captions."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import open_clip
import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from fti_qdrant.model.backbone import Backbone
from fti_training.augment import jittered
from fti_training.loop.training_loop import Loop, Parts
from fti_training.loop.update import Cosine
from fti_training.losses import clip
from fti_training.mini.captions import Captioner
from fti_training.mini.config import MiniConfig
from fti_training.mini.pictures import TrainingSet
from fti_training.precision import autocast

MOST_LOGIT_SCALE = 4.6052
"""log(100), CLIP's cap."""


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
class Phase:
    """One stretch of the backbone's training.

    Attributes:
        name: of its checkpoint and log.
        before: steps of the phases before it; each step seeds itself with its number of all.
        average: decay of the moving average of the weights, which is what is kept.
        depends_on: the settings that its weights depend on.
    """

    name: str
    before: int
    schedule: Cosine
    average: float
    depends_on: frozenset[str]

    @staticmethod
    def backbone(config: MiniConfig) -> Phase:
        schedule = Cosine(config.backbone_steps, config.backbone_lr, config.backbone_warmup)
        return Phase("backbone", 0, schedule, config.backbone_average, frozenset(BACKBONE_FIELDS))

    @staticmethod
    def finish(config: MiniConfig) -> Phase:
        schedule = Cosine(config.finish_steps, config.finish_lr, config.finish_warmup)
        fields = frozenset(BACKBONE_FIELDS | FINISH_FIELDS)
        return Phase("finish", config.backbone_steps, schedule, config.finish_average, fields)


def train_backbone(
    config: MiniConfig,
    phase: Phase,
    model: nn.Module,
    data: TrainingSet,
    folder: Path,
    probe: Callable[[Backbone], Parts],
) -> None:
    """Trains ``model`` in place for one phase, resuming from ``folder``.

    Args:
        probe: figures for the log, of the backbone as it stands at a checkpoint.
    """
    device = "cuda" if torch.cuda.is_available() else "cpu"
    backbone = wrap(model.to(device)).train()
    model.requires_grad_(True)  # a Backbone freezes what it wraps
    average = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(phase.average))
    captioner = Captioner(data.distinct, backbone.vocabulary, random.Random(config.seed))
    batches = data.numbered_batches(config.batch, config.seed + phase.before)

    def step(number: int) -> tuple[Tensor, Parts]:
        seed = phase.before + number
        captioner.rng.seed(f"{config.seed}/captions/{seed}")
        chosen = batches(number)
        lines = [captioner.tokens(data.emoji[index]) for index in chosen]
        tokens = backbone.vocabulary.assemble([([], line) for line in lines])
        pixels = jittered(data.pixels[chosen], torch.Generator().manual_seed(seed)).to(device)
        with autocast(config.precision, device):
            images = backbone.visual_pass(backbone.preprocess.normalize(pixels)).pooled
            texts = backbone.text_features(tokens)
        scale = model.get_parameter("logit_scale").clamp(max=MOST_LOGIT_SCALE).exp()
        loss = clip(images.float(), texts.float(), scale)
        return loss, {"loss": float(loss.detach()), "scale": float(scale.detach())}

    def probed() -> Parts:
        with torch.inference_mode():
            return probe(wrap(average.module.eval()))

    loop = Loop(
        name=phase.name,
        folder=folder,
        module=nn.ModuleDict({"model": model, "average": average}),
        optimizer=_optimizer(model, config, phase.schedule.lr),
        schedule=phase.schedule,
        every=config.checkpoint_every,
        identity=config.model_dump(include=set(phase.depends_on), exclude_none=True),
        probe=probed,
        after=lambda: average.update_parameters(model),
    )
    loop.run(step)
    model.load_state_dict(average.module.state_dict())
    model.requires_grad_(False).eval()


FINISH_FIELDS = {name for name in MiniConfig.model_fields if name.startswith("finish")}
BACKBONE_FIELDS = {
    name
    for name in MiniConfig.model_fields
    if not name.startswith(("inverter", "finish")) and name != "checkpoint_every"
}
"""The settings that the backbone's weights depend on."""


def save_open_clip(config: MiniConfig, model: nn.Module, folder: Path) -> None:
    """Writes a folder that open_clip loads as ``local-dir:``, weights in fp16."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "open_clip_config.json").write_text(json.dumps(config.open_clip(), indent=2) + "\n")
    halves = {name: value.half().cpu().contiguous() for name, value in model.state_dict().items()}
    save_file(halves, folder / "open_clip_model.safetensors")


def _optimizer(model: nn.Module, config: MiniConfig, lr: float) -> torch.optim.Optimizer:
    """AdamW; gains, biases and embeddings are not decayed, as in CLIP's training."""
    decayed: list[nn.Parameter] = []
    plain: list[nn.Parameter] = []
    for name, value in model.named_parameters():
        matrix = value.ndim >= 2 and "embedding" not in name
        (decayed if matrix else plain).append(value)
    groups = [
        {"params": decayed, "weight_decay": config.backbone_weight_decay},
        {"params": plain, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=lr, betas=(0.9, 0.98), fused=True)
