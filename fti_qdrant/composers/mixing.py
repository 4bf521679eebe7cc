"""Composers that mix the image vector and the text vector; they need no training."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fti_qdrant.composers.description import ComposerDescription, ComposerInputs, ComposerOptions

if TYPE_CHECKING:
    from torch import Tensor


class TextWeight(ComposerOptions):
    """The default suits photographs: several papers on CLIP settle near it (WeiMoCIR, PinPoint)."""

    text_weight: float = Field(0.8, ge=0, le=1, description="share of the text, 0 to 1")


def image(inputs: ComposerInputs, _: ComposerOptions) -> Tensor:
    """The image vector; the text is not used."""
    return inputs.image


def text(inputs: ComposerInputs, _: ComposerOptions) -> Tensor:
    """The text vector; the image is not used."""
    return inputs.text


def weighted_sum(inputs: ComposerInputs, options: TextWeight) -> Tensor:
    """``(1 - text_weight) image + text_weight text`` of unit vectors."""
    weight = options.text_weight
    return (1 - weight) * inputs.image + weight * inputs.text


def slerp(inputs: ComposerInputs, options: TextWeight) -> Tensor:
    """Spherical interpolation: the point at ``text_weight`` on the arc from image to text.

    Parallel and opposite vectors give a finite result.
    """
    weight = options.text_weight
    cosine = (inputs.image * inputs.text).sum(dim=-1, keepdim=True).clamp(-1 + 1e-6, 1 - 1e-6)
    angle = cosine.acos()
    mixed = ((1 - weight) * angle).sin() * inputs.image + (weight * angle).sin() * inputs.text
    return mixed / angle.sin()


def raw_sum(inputs: ComposerInputs, _: ComposerOptions) -> Tensor:
    """Image features plus text features as the towers give them, as BGE-VL was trained."""
    return inputs.raw_image + inputs.raw_text


COMPOSERS = (
    ComposerDescription("image", "the image alone", image, needs=("image",)),
    ComposerDescription("text", "the text alone", text, needs=("text",)),
    ComposerDescription(
        "sum",
        "the weighted sum of the image and text vectors",
        weighted_sum,
        needs=("image", "text"),
        options=TextWeight,
    ),
    ComposerDescription(
        "slerp",
        "spherical interpolation between the image and text vectors",
        slerp,
        needs=("image", "text"),
        options=TextWeight,
    ),
    ComposerDescription(
        "raw-sum",
        "the sum of the image and text features, not normalized (BGE-VL)",
        raw_sum,
        needs=("raw_image", "raw_text"),
        unit=False,
    ),
)
