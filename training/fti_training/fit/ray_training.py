"""Inverter training by Ray Train: several workers, or one somewhere on a cluster."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from pyarrow.fs import FSSpecHandler, PyFileSystem

from fti_ingest.engine.errors import worker_error
from fti_ingest.engine.ray import RayEngine
from fti_ingest.engine.resources import available, check_gpus
from fti_qdrant.errors import FtiError
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.cpu import use_threads
from fti_qdrant.model.names import absolute_name
from fti_training.distributed import DistributedGroup, ProcessGroup, SingleProcess
from fti_training.fit.config import FitConfig
from fti_training.fit.training import FitJob, InverterTraining
from fti_training.loop.checkpoint_storage import CheckpointStorage
from fti_training.loop.events import Event
from fti_training.precision import backbone_precision

WORKER_CPUS = 0.01
"""CPUs that a worker reserves: were it all of them, decoding would wait forever for one."""

RAY_FOLDER = "ray"
"""Where Ray Train keeps its own state while it runs, beside the checkpoints."""

POLL_SECONDS = 0.5

logger = logging.getLogger(__name__)


@dataclass
class Mailbox:
    """A queue to which workers post without waiting, and from which the driver takes."""

    queue: Any = field(repr=False)

    @classmethod
    def open(cls) -> Mailbox:
        from ray.util.queue import Queue

        return cls(Queue(actor_options={"num_cpus": 0}))

    def post(self, event: Event) -> None:
        self.queue.actor.put_nowait.remote(event)

    def take(self, seconds: float) -> Event | None:
        """The next event, or None where none comes in time."""
        from ray.util.queue import Empty

        try:
            event: Event = self.queue.get(timeout=seconds)
        except Empty:
            return None
        return event


@dataclass(frozen=True)
class RayContext:
    """A worker of Ray Train; see ``RunContext``.

    The first worker writes checkpoints to the same storage, in the same form, as a local run.
    Ray restarts the workers when one is lost; they then restore the newest checkpoint.
    """

    storage: CheckpointStorage
    mailbox: Mailbox
    rank: int

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def restore(self, load: Callable[[Path], None]) -> None:
        self.storage.check_shared()
        self.storage.restore_newest(load)

    def report(self, event: Event) -> None:
        self.mailbox.post(event)

    def checkpoint(
        self, step: int, figures: dict[str, float], write: Callable[[Path], None]
    ) -> None:
        """Ray's report waits until every worker has called it."""
        import ray.train

        if self.leads:
            self.storage.write(step, figures, write)
        ray.train.report({"step": step, **figures})


@dataclass(frozen=True)
class WorkerJob:
    """What Ray hands to each worker."""

    job: FitJob
    storage: CheckpointStorage
    mailbox: Mailbox


def train_in_worker(loop_config: dict[str, WorkerJob]) -> None:
    """Ray Train calls it in each process of the group."""
    from ray.train.torch import get_device

    given = loop_config["given"]
    config = given.job.config
    engine, device = RayEngine(), str(get_device())
    use_threads(engine.threads(config.workers))
    group: ProcessGroup = DistributedGroup() if config.workers > 1 else SingleProcess()
    precision = backbone_precision(config.precision, device)
    backbone = Backbone.load(config.model, device=device, precision=precision)
    context = RayContext(given.storage, given.mailbox, group.rank)
    InverterTraining(given.job, backbone, context, group, engine).run()


def train_with_ray(
    job: FitJob, storage: CheckpointStorage, handle: Callable[[Event], None]
) -> None:
    """Trains to the end on the Ray cluster that this process has joined.

    Args:
        handle: called in this thread with what the workers report.

    Raises FtiError: what a worker raised, or GPUs that the cluster does not have.
    """
    config = job.config
    _check_gpus(config)
    data = job.data.resolve() if isinstance(job.data, Path) else job.data
    # workers run in folders of their own
    root = config.validate_root and str(Path(config.validate_root).resolve())
    changes = {"model": absolute_name(config.model), "validate_root": root}
    config = config.model_copy(update=changes)
    mailbox = Mailbox.open()
    storage.make_folder()
    _remove_ray_folder(storage)
    trainer = _trainer(WorkerJob(replace(job, config=config, data=data), storage, mailbox))
    result = _started(trainer.fit)
    while not result.done():
        if (event := mailbox.take(POLL_SECONDS)) is not None:
            handle(event)
    while (event := mailbox.take(POLL_SECONDS)) is not None:
        handle(event)
    _raise_failure(result)
    _remove_ray_folder(storage)


def _started(function: Callable[[], Any]) -> Future[Any]:
    """Runs a function on a thread, so that Ctrl-C reaches this one; Ray's own handler would
    wait for the workers, and a second one end the process in silence."""
    result: Future[Any] = Future()

    def run() -> None:
        try:
            result.set_result(function())
        except BaseException as error:
            result.set_exception(error)

    threading.Thread(target=run, name="ray-train", daemon=True).start()
    return result


def _trainer(given: WorkerJob) -> Any:
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchTrainer

    config = given.job.config
    gpus = config.gpus_per_worker
    resources = {"CPU": WORKER_CPUS, **({"GPU": gpus} if gpus else {})}
    return TorchTrainer(
        train_in_worker,
        train_loop_config={"given": given},
        scaling_config=ScalingConfig(
            num_workers=config.workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=RunConfig(
            **ray_storage(given.storage),
            failure_config=FailureConfig(max_failures=config.max_failures),
        ),
    )


def ray_storage(storage: CheckpointStorage) -> dict[str, Any]:
    """Name and location of Ray Train's own state, as Ray takes them."""
    if storage.is_local:
        return {"name": RAY_FOLDER, "storage_path": str(Path(storage.path).resolve())}
    filesystem = PyFileSystem(FSSpecHandler(storage.system))
    return {"name": RAY_FOLDER, "storage_path": storage.path, "storage_filesystem": filesystem}


def _remove_ray_folder(storage: CheckpointStorage) -> None:
    """A run that was killed leaves its state, and Ray would take it up."""
    folder = f"{storage.path}/{RAY_FOLDER}"
    if storage.system.exists(folder):
        storage.system.rm(folder, recursive=True)


def _check_gpus(config: FitConfig) -> None:
    """Ray would wait for them forever."""
    share, workers = config.gpus_per_worker, config.workers
    if workers > 1 and share % 1:
        raise FtiError(
            f"gpus_per_worker={share:g}: several workers cannot share a GPU; use a whole number"
        )
    check_gpus(workers, share)
    present = available("GPU")
    if present and not share:
        logger.warning(
            "training on CPUs; the cluster has %g GPUs: --gpus-per-worker 1 uses them", present
        )


def _raise_failure(result: Future[Any]) -> None:
    """Raises what a worker raised: an error of ours rather than what it caused in the others."""
    error = result.exception()
    if error is None:
        return
    failures = [failure for _, failure in sorted(getattr(error, "worker_failures", {}).items())]
    for failure in failures:
        cause = getattr(failure, "cause", None) or failure.__cause__ or failure
        if isinstance(cause, FtiError):
            raise cause from error
    raise worker_error(failures[0] if failures else error) from error
