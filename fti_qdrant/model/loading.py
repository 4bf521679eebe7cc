"""open_clip models by name, with the mistakes that load without a word turned into errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import open_clip
from open_clip.pretrained import get_pretrained_cfg
from torch import nn

from fti_qdrant.errors import ModelMismatch, UnsupportedModel

MINI = Path(__file__).parents[1] / "weights" / "mini"
"""Folder of the embedded default: an open_clip config with weights, and an inverter."""


def load_open_clip(name: str) -> tuple[nn.Module, Any]:
    """A pretrained open_clip model and its tokenizer. Raises UnsupportedModel, ModelMismatch."""
    architecture, pretrained = split_name(name)
    if pretrained is not None:
        check_activation(architecture, pretrained)
    try:
        model = open_clip.create_model(architecture, pretrained=pretrained, require_pretrained=True)
        return model, open_clip.get_tokenizer(architecture)
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnsupportedModel(f"model {name!r} cannot be loaded: {reason}") from error


def split_name(name: str) -> tuple[str, str | None]:
    """``mini`` and our names -> open_clip's (model name, pretrained tag). Raises."""
    if name == "mini":
        return f"local-dir:{MINI}", None
    if name.startswith(("hf-hub:", "local-dir:")):
        return name, None
    architecture, _, pretrained = name.partition("/")
    if architecture not in open_clip.list_models():
        raise UnsupportedModel(
            f"unknown model {name!r}; use mini, ARCH/PRETRAINED such as "
            "ViT-B-32/laion2b_s34b_b79k, hf-hub:ORG/REPO or local-dir:PATH"
        )
    if not pretrained:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        known = ", ".join(f"{architecture}/{tag}" for tag in tags) or "none known"
        raise UnsupportedModel(f"model {name!r} names no weights; choose one of: {known}")
    return architecture, pretrained


def local_folder(name: str) -> Path | None:
    """The folder of a model on this disk, or None for models from elsewhere."""
    if name == "mini":
        return MINI
    return Path(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else None


def absolute_name(name: str) -> str:
    """The same model, by a name that holds in any working directory."""
    if not name.startswith("local-dir:"):
        return name
    return f"local-dir:{Path(name.removeprefix('local-dir:')).resolve()}"


def check_activation(architecture: str, pretrained: str) -> None:
    """Refuses weights trained with QuickGELU in an architecture with plain GELU, or the reverse.

    They would load, and answer worse without a word (open_clip issue 771).
    """
    weights = get_pretrained_cfg(architecture, pretrained)
    config = open_clip.get_model_config(architecture) or {}
    if not weights:
        return
    trained, built = bool(weights.get("quick_gelu")), bool(config.get("quick_gelu"))
    if trained == built:
        return
    plain = architecture.removesuffix("-quickgelu")
    right = f"{plain}-quickgelu" if trained else plain
    raise ModelMismatch(
        f"{architecture}/{pretrained}: the weights were trained with "
        f"{'QuickGELU' if trained else 'GELU'} and the architecture has "
        f"{'QuickGELU' if built else 'GELU'}; use {right}/{pretrained}"
    )
