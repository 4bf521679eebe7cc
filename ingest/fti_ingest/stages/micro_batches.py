"""One batch through the model: on a CPU in pieces side by side, on a GPU in pieces that fit.

With all of a CPU's threads on one product, each waits at its end for the slowest, which shares a
core with a decoder. Pieces on threads of their own wait for nobody. On a GPU the pieces go up from
pinned memory while the one before is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from torch.cuda import Stream

    from fti_qdrant.model.backbone import Backbone, ImageFeatures

PIECE = 16
"""Pictures of one piece; their activations fit a core's caches better than a whole batch's."""

MOST_LANES = 4

PROBE = 8
"""Pictures of the pass that tells what one takes of a GPU's memory."""

SHARE = 0.5
"""Of a GPU's free memory, for activations; other processes may share it."""


class MicroBatches:
    """A backbone that takes batches of any size.

    Args:
        threads: CPU threads that the process may use.
    """

    def __init__(self, backbone: Backbone, threads: int):
        import torch

        self.backbone = backbone
        self.pool: ThreadPoolExecutor | None = None
        self.piece: int | None = None
        if backbone.device.type == "cpu":
            lanes = min(MOST_LANES, threads)
            torch.set_num_threads(threads // lanes)
            self.pool = ThreadPoolExecutor(lanes)
            self.piece = PIECE
        elif backbone.device.type == "cuda":
            self.piece = pictures_that_fit(backbone)

    def features(self, pixels: Tensor) -> ImageFeatures:
        """uint8 ``[B, 3, size, size]`` -> features in float32."""
        from fti_qdrant.model.backbone import ImageFeatures

        if self.piece is None:
            return self.backbone.pixel_features(pixels)
        if self.pool is not None:
            parts = self.pool.map(self.backbone.pixel_features, pixels.split(self.piece))
            return ImageFeatures.join(list(parts))
        return ImageFeatures.join([self.backbone.pixel_features(p) for p in self._uploaded(pixels)])

    def _uploaded(self, pixels: Tensor) -> Iterator[Tensor]:
        """Pieces on the GPU; each next one is copied on a stream of its own meanwhile."""
        import torch

        assert self.piece is not None
        device = self.backbone.device
        computing, copying = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        waiting: list[Tensor] = []
        for piece in pixels.split(self.piece):
            with torch.cuda.stream(copying):
                waiting.append(piece.pin_memory().to(device, non_blocking=True))
            if len(waiting) == 2:
                yield self._ready(waiting.pop(0), computing, copying)
        yield from (self._ready(piece, computing, copying) for piece in waiting)

    @staticmethod
    def _ready(piece: Tensor, computing: Stream, copying: Stream) -> Tensor:
        computing.wait_stream(copying)
        piece.record_stream(computing)
        return piece


def pictures_that_fit(backbone: Backbone) -> int:
    """How many pictures a pass may take, by what one of a few takes."""
    import torch

    device = backbone.device
    side = backbone.preprocess.size
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    backbone.pixel_features(torch.zeros(PROBE, 3, side, side, dtype=torch.uint8))
    one = max(1, (torch.cuda.max_memory_allocated(device) - before) // PROBE)
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(SHARE * free) // one)
