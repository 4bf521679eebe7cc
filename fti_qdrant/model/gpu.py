"""What a GPU needs to be fast: recorded graphs for small batches, and the right kernels.

The hundreds of kernels of one small batch take longer to launch than to run; a graph is launched
at once (``python bench/gpu.py``). From 64 pictures on the card is busy either way, but each launch
waits for Python's lock, which decoding threads hold meanwhile; a graph waits once.
"""

from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from fti_qdrant.errors import first_line

logger = logging.getLogger(__name__)

SMALL_BATCH = 8
"""Every batch up to this size is recorded."""

RECORDED_BATCHES = frozenset((*range(1, SMALL_BATCH + 1), 16, 32, 64))
"""The sizes that are recorded: each keeps memory. Ingest's batches grow through the larger ones."""

Tensors = tuple[Tensor, ...]


@contextmanager
def matmul_precision(*, exact: bool) -> Iterator[None]:
    """float32 matrix products as they are, or with TF32 where the GPU has it, at 10 bits.

    TF32 is enough for a network whose inputs were made in 16 bits.
    """
    before = torch.get_float32_matmul_precision()
    if not exact:
        torch.set_float32_matmul_precision("high")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def attention_of_any_length(device: torch.device) -> AbstractContextManager[None]:
    """Without cuDNN's attention, which plans anew for each length of a prompt."""
    if device.type != "cuda":
        return nullcontext()
    kernels = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
    return sdpa_kernel(kernels)


class GraphedFunction:
    """A function of tensors on a GPU, recorded once for each shape of a batch.

    It must do the same for every input of one shape, without asking the GPU for values. Elsewhere,
    with gradients, and for other sizes the function is called as it is.
    """

    def __init__(self, function: Callable[..., Tensors]):
        self._function = function
        self._recorded: dict[tuple[object, ...], _Recording | None] = {}
        self._lock = threading.Lock()

    def __call__(self, *inputs: Tensor) -> Tensors:
        first = inputs[0]
        if not first.is_cuda or len(first) not in RECORDED_BATCHES or torch.is_grad_enabled():
            return self._function(*inputs)
        key = (first.device, *((one.shape, one.dtype) for one in inputs))
        with self._lock:  # a recording has one set of inputs and outputs
            if key not in self._recorded:
                self._recorded[key] = self._record(inputs)
            recording = self._recorded[key]
            if recording is not None:
                return recording.replay(inputs)
        return self._function(*inputs)

    def forget(self) -> None:
        """Drops all recordings: the memory of the function's weights has moved."""
        with self._lock:
            self._recorded.clear()

    def __reduce__(self) -> tuple[type[GraphedFunction], tuple[Callable[..., Tensors]]]:
        """Recordings and the lock stay in this process."""
        return GraphedFunction, (self._function,)

    def __deepcopy__(self, memo: dict[int, object]) -> GraphedFunction:
        return GraphedFunction(copy.deepcopy(self._function, memo))

    def _record(self, inputs: Tensors) -> _Recording | None:
        try:
            return _Recording(self._function, inputs)
        except RuntimeError as error:  # an operation that cannot be recorded
            logger.info("no CUDA graph for %s: %s", list(inputs[0].shape), first_line(error))
            return None


class _Recording:
    """A graph with the memory that it reads from and writes to.

    That memory is written to with and without inference mode, so it is made outside of it.
    """

    @torch.inference_mode(False)
    @torch.no_grad()
    def __init__(self, function: Callable[..., Tensors], inputs: Tensors):
        self.inputs = tuple(one.clone() for one in inputs)
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # libraries choose their kernels outside of the recording
            for _ in range(2):
                function(*self.inputs)
        torch.cuda.current_stream().wait_stream(aside)
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph, capture_error_mode="thread_local"):
            self.outputs = function(*self.inputs)

    @torch.inference_mode(False)
    @torch.no_grad()
    def replay(self, inputs: Tensors) -> Tensors:
        for kept, given in zip(self.inputs, inputs):
            kept.copy_(given)
        self.graph.replay()
        return tuple(one.clone() for one in self.outputs)
