"""Converts the authors' names and shapes to ours."""

from __future__ import annotations

import logging
from typing import NamedTuple

import torch
from torch import Tensor

from fti_qdrant.errors import CheckpointError, ModelMismatch
from fti_qdrant.model.importer.architecture import Hyperparameters
from fti_qdrant.model.inverter import Inverter

logger = logging.getLogger(__name__)


class BackboneSizes(NamedTuple):
    """``w``, ``d`` and ``t`` of a backbone."""

    width: int
    dim: int
    token_dim: int

    def __str__(self) -> str:
        return f"width {self.width}, d {self.dim}, t {self.token_dim}"


class ExpectedBackbone(NamedTuple):
    """The backbone that a checkpoint should have been trained with."""

    name: str
    sizes: BackboneSizes


THEIRS = {
    "queries": "templates",
    "to_local": "local_atte_fc.0",
    "subject_mlp": "phi_s.layers",
    "attribute_mlp": "phi_a.layers",
    "blocks": "transformer.layers",
}
"""First part of our name -> theirs."""

THEIRS_IN_A_BLOCK = {
    "to_queries": "attn.to_queries",
    "to_keys_values": "attn.to_keys_values",
    "project": "attn.project",
    "mlp.0": "mlp.fc1",
    "mlp.2": "mlp.fc2",
}

TRAINED_ON = {
    BackboneSizes(1024, 768, 768): "ViT-L-14-quickgelu/openai",
    BackboneSizes(768, 512, 512): "ViT-B-32-quickgelu/openai or ViT-B-16-quickgelu/openai",
}
"""Backbones to try, by the sizes that a checkpoint was trained with."""

SHOWN_NAMES = 4


def their_name(ours: str) -> str:
    """``blocks.0.mlp.2.bias`` -> ``transformer.layers.0.mlp.fc2.bias``, and so on."""
    first, _, rest = ours.partition(".")
    if first == "blocks":
        number, _, inner = rest.partition(".")
        part, _, value = inner.rpartition(".")
        rest = f"{number}.{THEIRS_IN_A_BLOCK.get(part, part)}.{value}"
    return f"{THEIRS[first]}.{rest}" if rest else THEIRS[first]


def to_inverter(
    tensors: dict[str, Tensor],
    constants: Hyperparameters,
    expected: ExpectedBackbone | None = None,
) -> Inverter:
    """An inverter with the checkpoint's weights, in float32 and evaluation mode.

    Args:
        tensors: by the authors' names.
        expected: the backbone that it is meant for; None takes the checkpoint's own sizes.

    Raises:
        ModelMismatch: the checkpoint was trained with a backbone of other sizes.
        CheckpointError: tensors are missing, unknown, of other shapes, or not finite.
    """
    sizes = trained_sizes(tensors)
    if expected is not None:
        _check_backbone(sizes, expected)
    latents = tensors["templates"].shape[1]
    if constants.num_k not in (None, latents):
        raise CheckpointError(f"num_k = {constants.num_k}, but templates has {latents} of them")
    stated = {"topk": constants.topk, "epsilon": constants.epsilon}
    with torch.device("meta"):  # shapes alone
        inverter = Inverter(
            sizes.width,
            sizes.dim,
            sizes.token_dim,
            latents=latents,
            **{name: value for name, value in stated.items() if value is not None},  # type: ignore[arg-type]
        )
    wanted = {
        ours: (their_name(ours), value.shape) for ours, value in inverter.state_dict().items()
    }
    _check_names(tensors, {theirs for theirs, _ in wanted.values()})
    for theirs, shape in wanted.values():
        _check_tensor(theirs, tensors[theirs], shape)
    converted = {ours: _plain(tensors[theirs]) for ours, (theirs, _) in wanted.items()}
    inverter.load_state_dict(converted, assign=True)
    return inverter.eval()


def trained_sizes(tensors: dict[str, Tensor]) -> BackboneSizes:
    """The sizes of the backbone that a checkpoint was trained with.

    Raises CheckpointError where it is not an FTI4CIR network.
    """
    required = ("templates", "phi_s.layers.0.weight", "local_atte_fc.0.weight")
    missing = [name for name in required if name not in tensors]
    if THEIRS.keys() <= {name.partition(".")[0] for name in tensors}:
        raise CheckpointError(
            "it holds the weights of an inverter of fti-qdrant, and needs no conversion: pass its "
            "folder, which has a config.json beside them, as the inverter"
        )
    if missing:
        raise CheckpointError(f"it has no tensor {_listed(missing)}: not an FTI4CIR network")
    templates, from_pooled, to_local = (tensors[name] for name in required)
    if templates.dim() != 3 or templates.shape[0] != 1 or not templates.shape[1]:
        raise CheckpointError(f"templates is {tuple(templates.shape)}, not [1, K, width]")
    if from_pooled.dim() != 2 or to_local.dim() != 2:
        raise CheckpointError("its linear layers are no matrices")
    return BackboneSizes(templates.shape[2], from_pooled.shape[1], to_local.shape[0])


def _check_backbone(trained: BackboneSizes, expected: ExpectedBackbone) -> None:
    if trained != expected.sizes:
        known = TRAINED_ON.get(trained, "the backbone that it was trained with")
        raise ModelMismatch(
            f"the checkpoint was trained with {trained}; {expected.name} has {expected.sizes}; "
            f"try {known}"
        )


def _check_names(tensors: dict[str, Tensor], wanted: set[str]) -> None:
    """Leaves out, with a warning, only what cannot be a weight: a target or a counter."""
    if missing := sorted(wanted - tensors.keys()):
        raise CheckpointError(f"{len(missing)} tensors are missing: {_listed(missing)}")
    others = sorted(tensors.keys() - wanted)
    if unknown := [name for name in others if tensors[name].is_floating_point()]:
        raise CheckpointError(
            f"{len(unknown)} tensors are not part of the method: {_listed(unknown)}"
        )
    if others:
        logger.warning("left out, for whole numbers are no weights: %s", _listed(others))


def _check_tensor(name: str, tensor: Tensor, shape: torch.Size) -> None:
    if tensor.shape != shape:
        raise CheckpointError(f"{name} is {tuple(tensor.shape)}, not {tuple(shape)}")
    if not tensor.is_floating_point():
        raise CheckpointError(f"{name} holds {tensor.dtype}, no real numbers")
    if not bool(tensor.isfinite().all()):
        raise CheckpointError(f"{name} holds values that are not finite")


def _plain(tensor: Tensor) -> Tensor:
    """A contiguous float32 copy."""
    return tensor.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _listed(names: list[str]) -> str:
    shown = ", ".join(repr(name)[:80] for name in names[:SHOWN_NAMES])
    return shown + ", ..." * (len(names) > SHOWN_NAMES)
