"""The engine of a cluster, or of several workers on one machine: Ray Data runs the stages."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from fti_ingest.engine.batching import cut
from fti_ingest.engine.errors import worker_error
from fti_ingest.engine.protocol import (
    Blocks,
    Capacity,
    CpuStage,
    EngineName,
    Pipeline,
    Stage,
    Step,
    Tables,
    WorkerStage,
)
from fti_ingest.engine.resources import available, bound_backlog, check_gpus
from fti_qdrant.model.cpu import usable_cpus

if TYPE_CHECKING:
    from ray.data import Dataset


class RayEngine:
    """Runs pipelines on the Ray cluster that this process has joined; see ``session``."""

    name: EngineName = "ray"
    distributes = True

    def stream(self, pipeline: Pipeline) -> Tables:
        """See ``Engine.stream``."""
        from ray.data import DataContext
        from ray.exceptions import RayError

        DataContext.get_current().execution_options.preserve_order = pipeline.ordered
        first, *others = pipeline.stages
        assert isinstance(first, CpuStage)
        if pipeline.row_bytes:
            _bound_backlog(pipeline.row_bytes, first, others)
        dataset = _read(pipeline.blocks, first)
        for stage in others:
            dataset = _through(dataset, stage)
        try:
            batches = dataset.iter_batches(batch_size=None, batch_format="pyarrow")
            yield from cut(iter(batches), None)
        except RayError as error:
            raise worker_error(error) from error

    def shared(self, kind: type, arguments: tuple[Any, ...], method: str) -> Callable[..., Any]:
        return RemoteMethod(_beside_driver(kind, arguments), method)

    def threads(self, workers: int) -> int:
        """Where the workers spread over the nodes evenly."""
        import ray

        nodes = max(1, sum(node["Alive"] for node in ray.nodes()))
        return max(1, usable_cpus() // math.ceil(workers / nodes))

    def capacity(self, workers: int, writers: int) -> Capacity:
        """Nodes with CPUs may have left the cluster by the end of a run."""
        return Capacity(max(1, int(available("CPU"))), workers, writers)


@dataclass(frozen=True)
class RemoteMethod:
    """A method of an actor, called as if it were here."""

    actor: Any
    method: str

    def __call__(self, *arguments: Any) -> Any:
        import ray

        return ray.get(getattr(self.actor, self.method).remote(*arguments))


@dataclass(frozen=True)
class ReadBlocks:
    """Numbers of blocks -> their rows through the first stage, some at a time.

    Ray's own batches would wait until there are as many numbers as the stage wants rows.
    """

    read: Callable[[int], pa.Table]
    step: Step
    rows: int | None

    def __call__(self, batch: pa.Table) -> Iterator[pa.Table]:
        for number in batch["id"].to_pylist():
            for piece in cut(iter([self.read(number)]), self.rows):
                yield self.step(piece)


def _bound_backlog(row_bytes: int, first: CpuStage, others: Sequence[Stage]) -> None:
    """By the batches of the first model, or, without one, by what this process takes itself."""
    models = [stage for stage in others if isinstance(stage, WorkerStage) and stage.rows]
    workers = models[0].workers if models else 1
    rows = (models[0].rows if models else first.rows) or 1
    bound_backlog(row_bytes, workers, rows, first.rows or rows)


def _read(blocks: Blocks, stage: CpuStage) -> Dataset:
    import ray

    read = RemoteMethod(_beside_driver(BlockServer, (blocks,)), "block")
    return ray.data.range(len(blocks), override_num_blocks=len(blocks)).map_batches(
        ReadBlocks(read, stage.step, stage.rows),
        batch_size=None,
        batch_format="pyarrow",
        num_cpus=1,
    )


class BlockServer:
    """Hands out blocks on the driver's machine: Ray holds none but those in work."""

    def __init__(self, blocks: Blocks):
        self.blocks = blocks

    def block(self, number: int) -> pa.Table:
        return self.blocks.block(number)


def _through(dataset: Dataset, stage: CpuStage | WorkerStage) -> Dataset:
    """Stages that ask for the same resources are fused by Ray: decoding would wait for the model.

    So a worker asks for no CPU, and a decoder for one.
    """
    from ray.data import ActorPoolStrategy

    if isinstance(stage, CpuStage):
        return dataset.map_batches(
            stage.step, batch_size=stage.rows, batch_format="pyarrow", num_cpus=1
        )
    check_gpus(stage.workers, stage.gpus)
    return dataset.map_batches(
        RemoteStep,
        fn_constructor_args=(stage.make, stage.arguments),
        batch_size=stage.rows,
        batch_format="pyarrow",
        compute=ActorPoolStrategy(size=stage.workers),
        num_cpus=0,
        num_gpus=stage.gpus or None,
    )


class RemoteStep:
    """A stage's step in an actor, made when the first batch comes."""

    def __init__(self, make: Callable[..., Step], arguments: tuple[Any, ...]):
        self.make, self.arguments = make, arguments
        self.step: Step | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        if self.step is None:
            self.step = self.make(*self.arguments)
        return self.step(batch)


def _beside_driver(kind: type, arguments: tuple[Any, ...]) -> Any:
    """An actor on the driver's own machine, whose files it reads; restarted where it dies."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    options = {"num_cpus": 0, "max_restarts": -1, "max_task_retries": -1}
    return ray.remote(kind).options(**options, scheduling_strategy=here).remote(*arguments)
