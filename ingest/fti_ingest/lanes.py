"""One batch through the model on a CPU, in pieces side by side.

With all threads on one product, each waits at its end for the slowest, which shares a core with a
decoder. Pieces on threads of their own wait for nobody.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from fti_qdrant.backbone import Backbone, ImageFeatures

PIECE = 16
"""Pictures of one piece; their activations fit a core's caches better than a whole batch's."""

MOST_LANES = 4


class Lanes:
    """A backbone behind a few threads; on other devices than a CPU there is one lane.

    Args:
        threads: CPU threads that the process may use.
    """

    def __init__(self, backbone: Backbone, threads: int):
        import torch

        self.backbone = backbone
        self.piece: int | None = None
        if backbone.device.type == "cpu":
            lanes = min(MOST_LANES, threads)
            torch.set_num_threads(threads // lanes)
            self.pool = ThreadPoolExecutor(lanes)
            self.piece = PIECE

    def features(self, pixels: Tensor) -> ImageFeatures:
        """uint8 ``[B, 3, size, size]`` -> features in float32."""
        from fti_qdrant.backbone import ImageFeatures

        if self.piece is None:
            return self.backbone.pixel_features(pixels)
        parts = self.pool.map(self.backbone.pixel_features, pixels.split(self.piece))
        return ImageFeatures.join(list(parts))
