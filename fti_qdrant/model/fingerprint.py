"""Identifies the model that made a vector, so that vectors of two models are never mixed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Fingerprint:
    """Identifies a model by what changes its image vectors.

    Attributes:
        model: the name that it was loaded by; only for messages, one model may have two names.
        weights: see ``weights_hash``.
        activation: of the text tower's MLPs; QuickGELU and GELU are similar, not equal.
        preprocess: see ``Preprocess.name``.
        dim: ``d``.
    """

    model: str
    weights: str
    activation: str
    preprocess: str
    dim: int

    def __post_init__(self) -> None:
        # older galleries have the British spelling
        american = self.preprocess.replace("centre-crop", "center-crop")
        object.__setattr__(self, "preprocess", american)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def matches(self, other: Fingerprint) -> bool:
        """Whether vectors of the two may be compared."""
        return (self.weights, self.activation, self.preprocess, self.dim) == (
            other.weights,
            other.activation,
            other.preprocess,
            other.dim,
        )

    def __str__(self) -> str:
        return (
            f"{self.model} (weights {self.weights}, {self.activation}, {self.preprocess}, "
            f"{self.dim} dimensions)"
        )


def weights_hash(items: Iterable[tuple[str, Tensor]]) -> str:
    """sha256 over names, shapes and float32 values, shortened to 16 hex digits."""
    digest = hashlib.sha256()
    for name, tensor in sorted(items, key=lambda item: item[0]):
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().float().contiguous().numpy().data)
    return digest.hexdigest()[:16]
