"""The sizes of a backbone by its name, without loading its weights where possible."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import open_clip
import torch

from fti_qdrant.errors import UnsupportedModel, first_line
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.image_tower import check_visual
from fti_qdrant.model.importer.convert import BackboneSizes
from fti_qdrant.model.loading import check_activation, split_name
from fti_qdrant.model.text_tower import TextTower


def sizes_of(name: str) -> BackboneSizes:
    """Sizes of ``ARCH/PRETRAINED`` from its configuration; other names are loaded.

    Raises:
        UnsupportedModel: no such model, no such weights, or not a ViT with a CLIP text tower.
        ModelMismatch: the weights were trained with another activation.
    """
    architecture, pretrained = split_name(name)
    if pretrained is None:
        backbone = Backbone.load(name, device="cpu", precision="fp32")
        return BackboneSizes(backbone.width, backbone.dim, backbone.token_dim)
    tags = open_clip.list_pretrained_tags_by_model(architecture)
    if pretrained not in tags and not Path(pretrained).is_file():
        known = ", ".join(f"{architecture}/{tag}" for tag in tags) or "none known"
        raise UnsupportedModel(f"model {name!r}: no such weights; choose one of: {known}")
    check_activation(architecture, pretrained)
    model = _without_weights(architecture, name)
    text = TextTower(model)
    return BackboneSizes(check_visual(model.visual, name), text.dim, text.token_dim)


def _without_weights(architecture: str, name: str) -> Any:
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns that the weights are random
    try:
        with torch.device("meta"):
            return open_clip.create_model(architecture, device="meta")
    except Exception as error:
        raise UnsupportedModel(f"model {name!r} cannot be built: {first_line(error)}") from error
    finally:
        logging.disable(disabled)
