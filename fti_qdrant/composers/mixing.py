"""Composers that mix the image vector and the text vector; they need no training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fti_qdrant.composers.description import ComposerDescription, ComposerInputs

if TYPE_CHECKING:
    from torch import Tensor

TEXT_WEIGHT = 0.5
"""Share of the text in ``sum`` and ``slerp``."""


def image(inputs: ComposerInputs) -> Tensor:
    """The image vector; the text is not used."""
    return inputs.images


def text(inputs: ComposerInputs) -> Tensor:
    """The text vector; the image is not used."""
    return inputs.texts


def weighted_sum(images: Tensor, texts: Tensor, weight: float = TEXT_WEIGHT) -> Tensor:
    """``(1 - weight) image + weight text`` of unit vectors ``[B, d]``."""
    return (1 - weight) * images + weight * texts


def slerp(images: Tensor, texts: Tensor, weight: float = TEXT_WEIGHT) -> Tensor:
    """Spherical interpolation: the point at ``weight`` on the arc from image to text.

    Both are unit vectors ``[B, d]``. Parallel and opposite vectors give a finite result.
    """
    cosine = (images * texts).sum(dim=-1, keepdim=True).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = cosine.acos()
    mixed = ((1 - weight) * angle).sin() * images + (weight * angle).sin() * texts
    return mixed / angle.sin()


COMPOSERS = (
    ComposerDescription("image", "the image alone", image, uses_text=False),
    ComposerDescription("text", "the text alone", text, uses_image=False),
    ComposerDescription(
        "sum",
        "the sum of the image and text vectors",
        lambda inputs: weighted_sum(inputs.images, inputs.texts),
    ),
    ComposerDescription(
        "slerp",
        "spherical interpolation between the image and text vectors",
        lambda inputs: slerp(inputs.images, inputs.texts),
    ),
)
