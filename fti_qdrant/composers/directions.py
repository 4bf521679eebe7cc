"""Composers that move along the direction in which a text changes a prompt."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import Field

from fti_qdrant.composers.description import ComposerDescription, ComposerInputs, ComposerOptions

if TYPE_CHECKING:
    from torch import Tensor


class PromptDirection(ComposerOptions):
    """The defaults are those published for photographs (arXiv 2502.07215, with SEARLE)."""

    text_weight: float = Field(0.8, ge=0, le=1, description="share of the prompt, 0 to 1")
    image_step: float = Field(1.4, ge=0, le=10, description="how far the image vector moves")
    prompt_step: float = Field(1.0, ge=0, le=10, description="1 leaves the prompt as it is")


def pdv(inputs: ComposerInputs, options: PromptDirection) -> Tensor:
    """Prompt directional vectors (arXiv 2502.07215).

    With v the image, T1 the prompt with the text, T0 without, and D = T1 - T0:
    ``(1 - b) (v + ai D) + b (T1 + (at - 1) D)``, where b is ``text_weight``, ai ``image_step`` and
    at ``prompt_step``.
    """
    direction = inputs.prompt - inputs.bare_prompt
    moved_image = inputs.image + options.image_step * direction
    moved_prompt = inputs.prompt + (options.prompt_step - 1) * direction
    share = options.text_weight
    return (1 - share) * moved_image + share * moved_prompt


COMPOSERS = (
    ComposerDescription(
        "pdv",
        "the prompt of fti, and the image moved by what the text changes in it",
        pdv,
        needs=("image", "prompt", "bare_prompt"),
        options=PromptDirection,
    ),
)
