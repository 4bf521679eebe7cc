"""Composers that write the reference image into a prompt as pseudo-words (FTI4CIR, section 3)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fti_qdrant.composers.description import ComposerDescription, ComposerInputs, ComposerOptions

if TYPE_CHECKING:
    from torch import Tensor


def fti(inputs: ComposerInputs, _: ComposerOptions) -> Tensor:
    """``a photo of * with * ... * but {text}``: the subject and its r attributes."""
    return inputs.prompt


def subject(inputs: ComposerInputs, _: ComposerOptions) -> Tensor:
    """``a photo of * but {text}``: one pseudo-word, as in coarse-grained textual inversion."""
    return inputs.subject_prompt


COMPOSERS = (
    ComposerDescription(
        "fti", "subject and attribute pseudo-words in a prompt", fti, needs=("prompt",)
    ),
    ComposerDescription(
        "subject", "the subject pseudo-word alone in a prompt", subject, needs=("subject_prompt",)
    ),
)
