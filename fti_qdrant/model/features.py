"""``ImageFeatures``: what one pass of the image tower yields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from fti_qdrant.errors import UnsupportedModel

if TYPE_CHECKING:
    from typing_extensions import Self


@dataclass(frozen=True)
class ImageFeatures:
    """What one visual pass yields.

    Attributes:
        pooled: ``g [B, d]``, after the visual projection, **not** normalized.
        tokens: ``p [B, 1+P, w]``, the last block's output before the final layer norm, class
            token first (``[B, P, w]`` for towers that have no class token, such as SigLIP's).
            None where the tower has no patch tokens, as convolutional ones.
    """

    pooled: Tensor
    tokens: Tensor | None = None

    def __len__(self) -> int:
        return len(self.pooled)

    def required_tokens(self) -> Tensor:
        """``tokens``, for code that cannot do without. Raises UnsupportedModel where it is None."""
        if self.tokens is None:
            raise UnsupportedModel(
                "these image features have no patch tokens, which an inverter needs; use a "
                "backbone with a ViT, such as ViT-B-32/laion2b_s34b_b79k"
            )
        return self.tokens

    def take(self, rows: Sequence[int] | Tensor) -> ImageFeatures:
        """The features of these images, in this order."""
        tokens = self.tokens
        return ImageFeatures(self.pooled[rows], None if tokens is None else tokens[rows])

    def float(self) -> ImageFeatures:
        """The same in float32."""
        tokens = self.tokens
        return ImageFeatures(self.pooled.float(), None if tokens is None else tokens.float())

    @classmethod
    def join(cls, parts: Sequence[ImageFeatures]) -> Self:
        """Concatenates along the batch; without tokens where a part has none."""
        tokens = [part.tokens for part in parts if part.tokens is not None]
        return cls(
            torch.cat([part.pooled for part in parts]),
            torch.cat(tokens) if len(tokens) == len(parts) else None,
        )
