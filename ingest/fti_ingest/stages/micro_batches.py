"""One batch through the model: on a CPU in micro-batches side by side, on a GPU as many as fit.

Where all threads of a CPU share one matrix product, each waits at its end for the slowest, which
shares its core with a decoder. So each thread takes a micro-batch of its own. On a GPU, the next
micro-batch is copied from pinned memory while the present one is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from fti_qdrant.model.cpu import use_threads

if TYPE_CHECKING:
    from torch import Tensor
    from torch.cuda import Stream

    from fti_qdrant.model.backbone import Backbone, ImageFeatures

CPU_ROWS = 16
"""Pictures of a micro-batch on a CPU: their activations fit a core's caches better than more."""

MAX_THREADS = 4

PROBE_ROWS = 16
"""Pictures of the pass that measures how much GPU memory one picture takes."""

MEMORY_SHARE = 0.5
"""Of a GPU's free memory, for activations; other processes may share the GPU."""


class MicroBatches:
    """A backbone that takes batches of any size.

    Args:
        threads: CPU threads that the process may use.
    """

    def __init__(self, backbone: Backbone, threads: int):
        self.backbone = backbone
        self.pool: ThreadPoolExecutor | None = None
        self.rows: int | None = None
        self._threads_before = 0
        if backbone.device.type == "cpu":
            side_by_side = min(MAX_THREADS, threads)
            self._threads_before = use_threads(threads // side_by_side)
            self.pool = ThreadPoolExecutor(side_by_side, thread_name_prefix="model")
            self.rows = CPU_ROWS
        elif backbone.device.type == "cuda":
            self.rows = pictures_that_fit(backbone)

    def close(self) -> None:
        """Ends the threads; PyTorch uses as many as before."""
        if self.pool is not None:
            self.pool.shutdown()
            use_threads(self._threads_before)

    def features(self, pixels: Tensor) -> ImageFeatures:
        """uint8 ``[B, 3, size, size]`` -> features in float32."""
        from fti_qdrant.model.backbone import ImageFeatures

        if self.rows is None:
            return self.backbone.pixel_features(pixels)
        if self.pool is not None:
            parts = self.pool.map(self.backbone.pixel_features, pixels.split(self.rows))
            return ImageFeatures.join(list(parts))
        return ImageFeatures.join([self.backbone.pixel_features(p) for p in self._uploaded(pixels)])

    def _uploaded(self, pixels: Tensor) -> Iterator[Tensor]:
        """Micro-batches on the GPU; the next one is copied on a stream of its own meanwhile."""
        import torch

        assert self.rows is not None
        device = self.backbone.device
        computing, copying = torch.cuda.current_stream(device), torch.cuda.Stream(device)
        waiting: list[Tensor] = []
        for part in pixels.split(self.rows):
            with torch.cuda.stream(copying):
                waiting.append(part.pin_memory().to(device, non_blocking=True))
            if len(waiting) == 2:
                yield self._ready(waiting.pop(0), computing, copying)
        yield from (self._ready(part, computing, copying) for part in waiting)

    @staticmethod
    def _ready(part: Tensor, computing: Stream, copying: Stream) -> Tensor:
        computing.wait_stream(copying)
        part.record_stream(computing)
        return part


class WholeBatches:
    """The same for batches of a few pictures, beside other work: each is one pass."""

    def __init__(self, backbone: Backbone):
        self.features = backbone.pixel_features

    def close(self) -> None:
        """There is nothing to end."""


def pictures_that_fit(backbone: Backbone) -> int:
    """How many pictures a pass may take, by the memory that one of a few takes."""
    import torch

    device = backbone.device
    side = backbone.preprocess.size
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    backbone.pixel_features(torch.zeros(PROBE_ROWS, 3, side, side, dtype=torch.uint8))
    one = max(1, (torch.cuda.max_memory_allocated(device) - before) // PROBE_ROWS)
    free, _ = torch.cuda.mem_get_info(device)
    return max(1, int(MEMORY_SHARE * free) // one)
