"""Which engine runs a command: this process where that is enough, else Ray."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from fti_ingest.engine.local import LocalEngine
from fti_ingest.engine.protocol import Engine, EngineName
from fti_qdrant.errors import FtiError


@dataclass(frozen=True)
class EngineChoice:
    """What the user asked for.

    Attributes:
        workers: processes that hold a model.
        gpus_per_worker: share of a GPU for each.
        ray_address: of a running Ray cluster.
    """

    engine: EngineName = "auto"
    workers: int = 1
    gpus_per_worker: float = 0.0
    ray_address: str | None = None

    @property
    def resolved(self) -> EngineName:
        """``local`` or ``ray``. Raises FtiError where what was asked for contradicts itself."""
        needs_ray = self.workers > 1 or self.gpus_per_worker > 1 or bool(self.ray_address)
        if self.engine == "auto":
            return "ray" if needs_ray else "local"
        if self.engine == "local" and self.workers > 1:
            raise FtiError(
                f"--engine local runs one worker, not --workers {self.workers}; leave out one of "
                "the two"
            )
        return self.engine

    def check(self) -> None:
        """Asks for what the engine needs before any work is done.

        Raises FtiError: Ray is not installed, or a GPU is asked for and this machine has none.
        """
        if self.resolved == "ray":
            from fti_qdrant.cli.extras import need

            need("ray", "ray")
        elif self.gpus_per_worker:
            import torch

            if not torch.cuda.is_available():
                raise FtiError(
                    f"--gpus-per-worker {self.gpus_per_worker:g} needs a GPU, and this machine "
                    "has none that PyTorch can use; leave it out to run on the CPU"
                )


@contextmanager
def open_engine(choice: EngineChoice, metrics_port: int | None = None) -> Iterator[Engine]:
    """The engine, ready to run; Ray is started or joined, and stopped after.

    Raises FtiError as ``EngineChoice.check``, GalleryUnavailable where no cluster answers.
    """
    choice.check()
    if choice.resolved == "local":
        yield LocalEngine()
        return
    from fti_ingest.engine.ray import RayEngine
    from fti_ingest.engine.session import quiet_ray

    with quiet_ray(choice.ray_address, metrics_port):
        yield RayEngine()
