"""Checks the attributes of a pickled network against the method.

Weights of a network with another activation, or with several heads, would load without an error,
and give worse results.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.importer.contents import CheckpointContents
from fti_qdrant.model.importer.stand_ins import Named, StoredModule
from fti_qdrant.model.inverter import Inverter

NORM_EPSILON = 1e-5
"""The default of torch.nn.LayerNorm, which our inverter uses."""

KINDS = {
    "local_atte_fc.1": "Sigmoid",
    "phi_s.layers.1": "GELU",
    "phi_s.layers.4": "GELU",
    "phi_a.layers.1": "GELU",
    "phi_a.layers.4": "GELU",
}
"""The classes of the layers without weights, if the checkpoint has layers of these names."""


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
                f"it does not state {name}; pass --{name} (the paper's is {official})"
            )
        if None not in (found, value) and found != value:
            raise CheckpointError(f"it was trained with {name} = {found}, not {value}")
    return stated.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )


def check_architecture(contents: CheckpointContents) -> None:
    """Raises CheckpointError where a pickled network differs from the method."""
    for name, module in (contents.modules or {}).items():
        kind = type(module).__name__
        if name in KINDS and kind != KINDS[name]:
            raise CheckpointError(f"{name} is a {kind}; the method has a {KINDS[name]} there")
        if kind == "MultiHeadAttention":
            _checked(Attention, module, name)
        if kind == "LayerNorm":
            _checked(Norm, module, name)
        if kind == "GELU" and module.state.get("approximate", "none") != "none":
            raise CheckpointError(f"{name} is an approximate GELU; the method has the exact one")
        if kind == "MlpTransformer":
            _check_activation(name, module)


def _check_activation(name: str, mlp: StoredModule) -> None:
    """Checks that the activation, a function or a layer without weights, is ReLU."""
    layers = [type(layer).__name__ for layer in mlp.state["_modules"].values()]
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
        raise CheckpointError(f"{name} of {where} cannot be used: {first['msg']}") from None
