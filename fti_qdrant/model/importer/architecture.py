"""Checks the attributes of a pickled network against the method.

Weights of a network with another activation, or with several heads, would load without an error,
and give worse results.
"""

from __future__ import annotations

import math
from inspect import signature
from itertools import zip_longest
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.importer.contents import LOSSES, CheckpointContents
from fti_qdrant.model.importer.stand_ins import Named, StoredModule
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.validation_reason import reason

NORM_EPSILON = 1e-5
"""The default of torch.nn.LayerNorm, which our inverter uses."""

NO_LAYERS = {"Dropout", "Identity"}
"""They do nothing in evaluation."""

MLP = (*("Linear", "GELU", "Dropout") * 2, "Linear")

SEQUENCES = {
    "local_atte_fc": ("Linear", "Sigmoid"),
    "phi_s.layers": MLP,
    "phi_a.layers": MLP,
}
"""The layers of each sequence, in order."""

NORMS = ("norm1", "norm2")
"""Last part of the names of the layers that are ``LayerNorm``; all others with weights are
``Linear``."""

MLP_PARTS = ("Linear", "Dropout", "Identity", "NoneType", "ReLU", "relu")
"""Layers and functions of an ``MlpTransformer``."""


class Hyperparameters(BaseModel):
    """The network's constants; None where the checkpoint does not state one.

    Attributes:
        num_k: ``K``, latent attribute queries.
        topk: most attribute tokens of one picture.
        epsilon: a latent attribute counts if its relevance is above this.
    """

    model_config = ConfigDict(strict=True, frozen=True, extra="ignore")

    num_k: int | None = Field(default=None, ge=1)
    topk: int | None = Field(default=None, ge=1)
    epsilon: float | None = Field(default=None, ge=0, le=1, allow_inf_nan=False)


class Attention(BaseModel):
    """Attributes of a ``MultiHeadAttention`` that change what its weights mean."""

    model_config = ConfigDict(strict=True, extra="ignore")

    num_heads: int = Field(default=1, ge=1, le=1)
    scale: float | None = None


class Layers(BaseModel):
    """Attributes of a ``Transformer`` that change what its weights mean."""

    model_config = ConfigDict(strict=True, extra="ignore")

    enc_dec: Literal[False] = False


class Norm(BaseModel):
    """Attributes of a ``LayerNorm`` that change what its weights mean."""

    model_config = ConfigDict(strict=True, extra="ignore")

    eps: float = Field(default=NORM_EPSILON, ge=NORM_EPSILON, le=NORM_EPSILON)


def hyperparameters(
    contents: CheckpointContents, topk: int | None, epsilon: float | None
) -> Hyperparameters:
    """The checkpoint's own constants, or the given ones where it does not state them.

    Raises:
        CheckpointError: a constant is out of range or differs from the given one, or a whole
            network does not state it and none is given.
    """
    given = {"topk": topk, "epsilon": epsilon}
    if contents.modules is None:
        return Hyperparameters(topk=topk, epsilon=epsilon)
    stated = _checked(Hyperparameters, contents.modules[""], "the network")
    for name, value in given.items():
        found = getattr(stated, name)
        if found is None and value is None:
            official = signature(Inverter).parameters[name].default
            raise CheckpointError(
                f"it does not state {name}; convert it by fti-train import with --{name} "
                f"(the paper's is {official})"
            )
        if None not in (found, value) and found != value:
            raise CheckpointError(f"it was trained with {name} = {found}, not {value}")
    return stated.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )


def check_architecture(contents: CheckpointContents) -> None:
    """Raises CheckpointError where a pickled network with the right tensors has other layers."""
    for name, module in (contents.modules or {}).items():
        kind = type(module).__name__
        if name in SEQUENCES:
            _check_sequence(name, module)
        elif kind == "MultiHeadAttention":
            _check_attention(name, module, contents)
        elif kind == "LayerNorm":
            _checked(Norm, module, name)
        elif kind == "Transformer":
            _checked(Layers, module, name)
        elif kind == "MlpTransformer":
            _check_activation(name, module)
        if kind == "GELU" and module.state.get("approximate", "none") != "none":
            raise CheckpointError(f"{name} is an approximate GELU; the method has the exact one")
        _check_owner(name, module)


def _check_sequence(name: str, sequence: StoredModule) -> None:
    """A layer without weights, or another order of them, would not show in the tensors."""
    found = [(str(place), type(layer).__name__) for place, layer in _children(sequence).items()]
    wanted = [(str(place), kind) for place, kind in enumerate(SEQUENCES[name])]
    for has, should in zip_longest(found, wanted, fillvalue=("", "nothing")):
        same_place, kinds = has[0] == should[0], {has[1], should[1]}
        if not same_place or (len(kinds) == 2 and not kinds <= NO_LAYERS):
            raise CheckpointError(
                f"{name}.{has[0] or should[0]} is {_a(has[1])}; the method has {_a(should[1])} "
                "there"
            )


def _check_attention(name: str, module: StoredModule, contents: CheckpointContents) -> None:
    attention = _checked(Attention, module, name)
    queries = contents.tensors.get(f"{name}.to_queries.weight")
    if attention.scale is None or queries is None or not queries.dim():
        return
    scale = max(len(queries), 1) ** -0.5
    if not math.isclose(attention.scale, scale, rel_tol=1e-6):
        raise CheckpointError(
            f"scale of {name} is {attention.scale}; the method divides by the root of the width, "
            f"{scale:.6g}"
        )


def _check_owner(name: str, module: StoredModule) -> None:
    """Weights of two kinds of layers may have the same names and shapes."""
    owns = any(value is not None for value in module.state["_parameters"].values())
    wanted = "LayerNorm" if name.rpartition(".")[2] in NORMS else "Linear"
    kind = type(module).__name__
    is_loss = type(module).__module__ == LOSSES
    if owns and name and not is_loss and kind != wanted:
        raise CheckpointError(f"{name} is {_a(kind)}; the method has {_a(wanted)} there")


def _children(module: StoredModule) -> dict[str, Any]:
    children: dict[str, Any] = module.state["_modules"]
    return children


def _a(kind: str) -> str:
    """With its article, as a reader expects it."""
    return kind if kind == "nothing" else f"a {kind}"


def _check_activation(name: str, mlp: StoredModule) -> None:
    """Checks that the activation, a function or a layer without weights, is ReLU."""
    layers = [type(layer).__name__ for layer in _children(mlp).values()]
    functions = [value.name for value in mlp.state.values() if isinstance(value, Named)]
    for activation in [*layers, *functions]:
        if activation not in MLP_PARTS:
            raise CheckpointError(f"{name} has a {activation}; the method has ReLU there")


def _checked(model: type[Any], module: StoredModule, where: str) -> Any:
    try:
        return model.model_validate(
            {key: value for key, value in module.state.items() if isinstance(key, str)}
        )
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        name = ".".join(map(str, first["loc"]))
        raise CheckpointError(f"{name} of {where} cannot be used: it {reason(first)}") from None
