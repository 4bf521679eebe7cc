"""Modules of ours as models of OpenVINO: converted once, and kept on disk."""

from __future__ import annotations

import hashlib
import logging
import shutil
import sys
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from fti_qdrant.atomic_files import replacing
from fti_qdrant.errors import UnsupportedModel, first_line
from fti_qdrant.model.cache_folder import cache_folder

if TYPE_CHECKING:
    from types import ModuleType

logger = logging.getLogger(__name__)

FORMAT = 1
"""Raised where our modules change, so that older files of the cache are not used."""

MODEL = "model.xml"
"""In the folder of a converted module; its weights are beside it."""

HINTS = {"fp32": "f32", "bf16": "bf16"}
"""Our names of the precisions that OpenVINO computes in on a CPU -> its own."""

Shape = tuple[int, ...]
"""Of an input; -1 for a side of any length."""


def openvino_package() -> ModuleType:
    """Raises UnsupportedModel, with what to install, where the package is missing."""
    try:
        with _without_telemetry():
            import openvino
            import openvino.tools.ovc.convert_impl
    except ImportError:
        raise UnsupportedModel(
            "backend 'openvino' needs the package openvino: pip install 'fti-qdrant[openvino]'"
        ) from None
    return openvino


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """OpenVINO reports each import and conversion to its makers, unless this package is missing."""
    name = "openvino_telemetry"
    loaded = name in sys.modules
    if not loaded:
        sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        if not loaded:
            del sys.modules[name]


class CompiledModel:
    """A compiled model. Safe to call from several threads: each has a request of its own."""

    def __init__(self, compiled: Any):
        self._compiled = compiled
        self._requests = threading.local()

    def __call__(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        """Tensors on the CPU, in float32 or int64 -> the outputs, in float32."""
        request = getattr(self._requests, "one", None)
        if request is None:
            request = self._requests.one = self._compiled.create_infer_request()
        outputs = request.infer([one.detach().contiguous().numpy() for one in inputs])
        # the next call writes into the same memory
        return tuple(torch.from_numpy(outputs[port].copy()) for port in self._compiled.outputs)


class Compiler:
    """Compiles modules for the CPU, by way of files in the cache folder.

    Args:
        precision: fp32 or bf16.
        identity: what the modules' weights and structure depend on.
    """

    def __init__(self, precision: str, *identity: str):
        self.openvino = openvino_package()
        self.precision = precision
        versions = (str(FORMAT), str(self.openvino.__version__), *identity)
        self.key = hashlib.sha256("\n".join(versions).encode()).hexdigest()[:16]

    def compile(
        self,
        name: str,
        module: Callable[[], nn.Module],
        example: tuple[Tensor, ...],
        *shapes: Shape,
    ) -> CompiledModel:
        """A module as a compiled model; converted only where it is not in the cache.

        Args:
            name: of the module, among those of the same identity.
            module: makes it.
            example: inputs of two rows, for tracing.
            shapes: of the inputs.

        Raises UnsupportedModel where OpenVINO cannot convert or compile it.
        """
        try:
            folder = self._saved(name, module, example, shapes)
            if folder is None:
                return self._compiled(self._converted(module(), example, shapes))
            try:
                return self._compiled(folder / MODEL, CACHE_DIR=str(folder / "compiled"))
            except RuntimeError as error:  # damaged files
                logger.warning("%s cannot be used (%s); made again", folder, first_line(error))
                shutil.rmtree(folder, ignore_errors=True)
                return self._compiled(self._converted(module(), example, shapes))
        except Exception as error:  # OpenVINO raises RuntimeError and its own
            raise UnsupportedModel(
                f"backend 'openvino' cannot run the {name}: {first_line(error)}; use backend "
                "'torch'"
            ) from error

    def _compiled(self, model: Any, **options: str) -> CompiledModel:
        core = self.openvino.Core()
        options["PERFORMANCE_HINT"] = "LATENCY"
        options["INFERENCE_PRECISION_HINT"] = HINTS[self.precision]
        return CompiledModel(core.compile_model(model, "CPU", options))

    def _saved(
        self,
        name: str,
        module: Callable[[], nn.Module],
        example: tuple[Tensor, ...],
        shapes: Sequence[Shape],
    ) -> Path | None:
        """The folder of the converted module in the cache; None where nothing can be written."""
        try:
            folder = cache_folder() / "openvino" / self.key / name.replace(" ", "-")
            if not (folder / MODEL).is_file():
                logger.info("converting the %s for OpenVINO, once", name)
                model = self._converted(module(), example, shapes)
                with replacing(folder) as part:
                    part.mkdir()
                    self.openvino.save_model(model, part / MODEL, compress_to_fp16=False)
        except OSError as error:
            logger.info("the %s is not kept for the next time: %s", name, first_line(error))
            return None
        return folder

    def _converted(
        self, module: nn.Module, example: tuple[Tensor, ...], shapes: Sequence[Shape]
    ) -> Any:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # of tracing: what it warns of is tested
            return self.openvino.convert_model(
                module.eval(),
                example_input=example if len(example) > 1 else example[0],
                input=[self.openvino.PartialShape(list(shape)) for shape in shapes],
            )
