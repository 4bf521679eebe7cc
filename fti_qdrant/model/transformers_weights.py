"""The tensors of a CLIP of transformers, by the names that open_clip gives them."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import safe_open
from torch import Tensor

from fti_qdrant.errors import UnsupportedModel, first_line
from fti_qdrant.model.checkpoint_files import CheckpointFiles

logger = logging.getLogger(__name__)

SAFETENSORS, PICKLED = "model.safetensors", "pytorch_model.bin"

NO_WEIGHTS = ("position_ids",)
"""Last parts of names of buffers that old versions saved, and that hold nothing learned."""

TOWERS = ("vision_model.", "text_model.", "visual_projection.", "text_projection.")

WHOLE = {
    "logit_scale": "logit_scale",
    "visual.class_embedding": "vision_model.embeddings.class_embedding",
    "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
    "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
    "visual.ln_pre.weight": "vision_model.pre_layrnorm.weight",
    "visual.ln_pre.bias": "vision_model.pre_layrnorm.bias",
    "visual.ln_post.weight": "vision_model.post_layernorm.weight",
    "visual.ln_post.bias": "vision_model.post_layernorm.bias",
    "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
    "positional_embedding": "text_model.embeddings.position_embedding.weight",
    "ln_final.weight": "text_model.final_layer_norm.weight",
    "ln_final.bias": "text_model.final_layer_norm.bias",
}
"""open_clip's name -> transformers'."""

TRANSPOSED = {
    "visual.proj": "visual_projection.weight",
    "text_projection": "text_projection.weight",
}

BLOCK = {
    "ln_1": "layer_norm1",
    "ln_2": "layer_norm2",
    "attn.out_proj": "self_attn.out_proj",
    "mlp.c_fc": "mlp.fc1",
    "mlp.c_proj": "mlp.fc2",
}
"""Layers of a block; the projections of queries, keys and values are joined besides."""

BLOCKS = {
    "visual.transformer.resblocks": "vision_model.encoder.layers",
    "transformer.resblocks": "text_model.encoder.layers",
}


@dataclass
class Checkpoint:
    """The tensors of a checkpoint.

    Attributes:
        name: the model's, for messages.
        files: that the tensors are in.
        tensors: those that have not been taken yet.
    """

    name: str
    files: list[Path]
    tensors: dict[str, Tensor]

    @classmethod
    def read(cls, checkpoint: CheckpointFiles) -> Checkpoint:
        """Reads safetensors, in one file or in shards, or else ``pytorch_model.bin``.

        The latter holds a pickle: torch reads it with ``weights_only=True``, which runs no code.

        Raises UnsupportedModel: no weights, or a file that cannot be read.
        """
        index = f"{SAFETENSORS}.index.json", f"{PICKLED}.index.json"
        path = checkpoint.require(SAFETENSORS, index[0], PICKLED, index[1])
        files = [path]
        if path.name.endswith(".index.json"):
            files = [checkpoint.require(shard) for shard in _shards(checkpoint, path)]
        tensors: dict[str, Tensor] = {}
        for file in files:
            try:
                tensors.update(_tensors_of(file))
            except UnsupportedModel:
                raise
            except Exception as error:  # safetensors and torch each have their own
                raise UnsupportedModel(
                    f"model {checkpoint.name!r}: {file.name} cannot be read: {first_line(error)}"
                ) from error
        return cls(checkpoint.name, files, tensors)

    def take(self, name: str) -> Tensor:
        """One tensor in float32. Raises UnsupportedModel, which names it, where it is missing."""
        try:
            return self.tensors.pop(name).float()
        except KeyError:
            raise UnsupportedModel(
                f"model {self.name!r}: the checkpoint lacks the tensor {name!r}"
            ) from None

    def check_all_taken(self) -> None:
        """Raises UnsupportedModel for a tensor of the towers that CLIP has no place for."""
        left = [name for name in sorted(self.tensors) if not _is_buffer(name)]
        foreign = [name for name in left if name.startswith(TOWERS)]
        if foreign:
            raise UnsupportedModel(
                f"model {self.name!r}: the checkpoint has {len(foreign)} tensors that a CLIPModel "
                f"has no place for, such as {foreign[0]!r}"
            )
        if left:
            logger.warning(
                "%s: %d tensors are not of the towers, such as %s", self.name, len(left), left[0]
            )


def open_clip_weights(checkpoint: Checkpoint, names: Iterator[str]) -> dict[str, Tensor]:
    """The state dict of an open_clip CLIP.

    Args:
        names: of the tensors that the model wants, as open_clip names them.
    """
    return {name: _tensor_of(checkpoint, name).contiguous() for name in names}


def _tensor_of(checkpoint: Checkpoint, name: str) -> Tensor:
    if name in WHOLE:
        return checkpoint.take(WHOLE[name])
    if name in TRANSPOSED:
        return checkpoint.take(TRANSPOSED[name]).T
    for ours, theirs in BLOCKS.items():
        if name.startswith(f"{ours}."):
            number, _, rest = name.removeprefix(f"{ours}.").partition(".")
            layer = f"{theirs}.{number}"
            if rest.startswith("attn.in_proj_"):
                kind = rest.removeprefix("attn.in_proj_")
                parts = (f"{layer}.self_attn.{one}_proj.{kind}" for one in "qkv")
                return torch.cat([checkpoint.take(part) for part in parts])
            module, _, kind = rest.rpartition(".")
            return checkpoint.take(f"{layer}.{BLOCK[module]}.{kind}")
    raise AssertionError(f"open_clip has a tensor {name!r} that transformers' CLIP has not")


def _shards(checkpoint: CheckpointFiles, index: Path) -> list[str]:
    """The names of the files that an index lists; they are beside it."""
    shards = checkpoint.read_json(index).get("weight_map")
    names = set(shards.values()) if isinstance(shards, dict) else set()
    if not names or not all(isinstance(name, str) and name == Path(name).name for name in names):
        raise UnsupportedModel(f"model {checkpoint.name!r}: {index.name} lists no files beside it")
    return sorted(names)


def _tensors_of(file: Path) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        with ExitStack() as stack:
            opened = stack.enter_context(safe_open(file, framework="pt"))
            return {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
    if torch.__version__ < "2.6":
        raise UnsupportedModel(
            f"{file.name} is a pickle, which torch reads safely from version 2.6 on; update torch, "
            "or convert the checkpoint to safetensors"
        )
    loaded = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
    return dict(loaded)


def _is_buffer(name: str) -> bool:
    return name.rpartition(".")[2] in NO_WEIGHTS
