"""Checkpoints of transformers' ``CLIPModel`` as open_clip models; transformers is not needed.

No code of a repository is run: the JSON files are read, and the tensors get open_clip's names.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import open_clip
import torch
from open_clip.transformer import QuickGELU
from torch import nn

from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.images import Preprocess
from fti_qdrant.model.checkpoint_files import CheckpointFiles
from fti_qdrant.model.tokens import Vocabulary
from fti_qdrant.model.transformers_config import (
    ClipConfig,
    TextConfig,
    VisionConfig,
    read_clip_config,
    read_preprocess,
)
from fti_qdrant.model.transformers_tokenizer import read_vocabulary
from fti_qdrant.model.transformers_weights import Checkpoint, open_clip_weights

ACTIVATIONS = {
    "quick_gelu": QuickGELU,
    "gelu": nn.GELU,
    "gelu_new": lambda: nn.GELU("tanh"),
    "gelu_pytorch_tanh": lambda: nn.GELU("tanh"),
}
"""``hidden_act`` -> the module."""


class TransformersClip(NamedTuple):
    """A loaded checkpoint.

    Attributes:
        preprocess: as transformers' own processor does it.
        files: that the weights came from.
    """

    model: nn.Module
    vocabulary: Vocabulary
    preprocess: Preprocess
    files: list[Path]


def load_transformers_clip(name: str) -> TransformersClip:
    """Loads ``hf:ORG/REPO[@REVISION]``, or a folder with ``config.json`` and safetensors.

    Raises UnsupportedModel: not a CLIPModel, or a file that is missing or damaged.
    """
    files = CheckpointFiles.of(name)
    config = read_clip_config(files)
    preprocess = read_preprocess(files, config.vision_config.image_size)
    vocabulary = read_vocabulary(files, config.text_config)
    model = _empty_model(config, name)
    checkpoint = Checkpoint.read(files)
    weights = open_clip_weights(checkpoint, iter(model.state_dict()))
    for tensor, wanted in model.state_dict().items():
        if weights[tensor].shape != wanted.shape:
            raise UnsupportedModel(
                f"model {name!r}: the checkpoint's weights for {tensor!r} have the shape "
                f"{tuple(weights[tensor].shape)}, and config.json asks for {tuple(wanted.shape)}"
            )
    checkpoint.check_all_taken()
    model.load_state_dict(weights, assign=True)
    return TransformersClip(model.eval(), vocabulary, preprocess, checkpoint.files)


def _empty_model(config: ClipConfig, name: str) -> nn.Module:
    """open_clip's CLIP of these sizes, its weights not yet in memory."""
    text, vision = config.text_config, config.vision_config
    with torch.device("meta"):
        model = open_clip.CLIP(
            config.projection_dim,
            {**_blocks(vision), "image_size": vision.image_size, "patch_size": vision.patch_size},
            {**_text_blocks(text)},
        )
    length = text.max_position_embeddings
    model.attn_mask = torch.full((length, length), float("-inf")).triu_(1)
    for transformer, kind in (
        (model.visual.transformer, vision.hidden_act),
        (model.transformer, text.hidden_act),
    ):
        if kind not in ACTIVATIONS:
            known = ", ".join(ACTIVATIONS)
            raise UnsupportedModel(
                f"model {name!r} has the activation {kind!r}; known ones are {known}"
            )
        for block in transformer.resblocks:
            block.mlp.gelu = ACTIVATIONS[kind]()
    return model


def _blocks(tower: VisionConfig) -> dict[str, Any]:
    return {
        "width": tower.hidden_size,
        "head_width": tower.hidden_size // tower.num_attention_heads,
        "layers": tower.num_hidden_layers,
        "mlp_ratio": _ratio(tower),
        "norm_kwargs": {"eps": tower.layer_norm_eps},
    }


def _text_blocks(tower: TextConfig) -> dict[str, Any]:
    return {
        "width": tower.hidden_size,
        "heads": tower.num_attention_heads,
        "layers": tower.num_hidden_layers,
        "mlp_ratio": _ratio(tower),
        "norm_kwargs": {"eps": tower.layer_norm_eps},
        "context_length": tower.max_position_embeddings,
        "vocab_size": tower.vocab_size,
    }


def _ratio(tower: TextConfig | VisionConfig) -> float:
    """open_clip takes the whole part of width times this: half a value keeps it exact."""
    return (tower.intermediate_size + 0.5) / tower.hidden_size
