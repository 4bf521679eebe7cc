"""A run from the driver's side: checks, the worker group, progress, and what is left at the end."""

from __future__ import annotations

import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from fti_ingest.engine.resources import check_gpus
from fti_ingest.engine.session import quiet_ray
from fti_ingest.run.pipeline import worker_error
from fti_ingest.run.rejects import RejectsFile, read_rejects
from fti_qdrant.cli.progress import step_progress
from fti_qdrant.errors import CheckpointError, FtiError, OutputUnavailable
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.names import absolute_name
from fti_training.cache.layout import Cache
from fti_training.fit.config import FitConfig
from fti_training.fit.data_facts import DataFacts
from fti_training.fit.events import Began, Event, Mailbox, Skipped, Stepped, Validated
from fti_training.fit.log import Records
from fti_training.fit.sampling_order import Order
from fti_training.fit.state import INVERTER, State
from fti_training.fit.storage import Storage
from fti_training.fit.validate import SCORE
from fti_training.fit.worker import Job, work
from fti_training.samples import Samples

CONFIG, REJECTS, BEST = "config.json", "rejects.jsonl", "best"
WORKER_CPUS = 0.01
"""What a worker reserves of Ray's CPUs: all of them are for decoding, which would wait forever."""


@dataclass
class Fit:
    """One training run.

    Attributes:
        data: samples to read the pictures of, or the folder of a cache.
        out: folder of the model, the log and, by default, the checkpoints.
        skipped: uris of the pictures that could not be read.
    """

    config: FitConfig
    data: Samples | Path
    out: Path
    storage: Storage
    resume: bool = False
    ray_address: str | None = None
    skipped: set[str] = field(default_factory=set)
    last: dict[str, float] = field(default_factory=dict)
    facts: DataFacts = field(init=False)

    def run(self) -> Path:
        """Trains to the end; the folder of the trained inverter.

        Raises:
            CheckpointError: another run's folder, or a loss that is not finite.
            ModelMismatch: a cache of another model.
            FtiError: fewer samples than a batch; GPUs that the cluster does not have.
        """
        self.facts, job_steps = self._check()
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / CONFIG).write_text(self.config.model_dump_json(indent=2) + "\n")
        self.facts.write(self.out)
        with quiet_ray(self.ray_address):
            self._check_gpus()
            mailbox = Mailbox.open()
            job = Job(self._for_workers(), _absolute(self.data), job_steps, mailbox)
            with self._listening(mailbox, job_steps):
                result = self._train(job)
            unreadable = self.facts.unreadable + len(self.skipped)
            self.facts.model_copy(update={"unreadable": unreadable}).write(self.out)
            return self._keep(result)

    def _for_workers(self) -> FitConfig:
        """Ray Train runs its workers in folders of their own."""
        return self.config.model_copy(update={"model": absolute_name(self.config.model)})

    def summary(self) -> str:
        """What came of it, in a line."""
        if not self.last:
            return "the run had come to its end before"
        return f"{self.last['step']:,.0f} steps, loss {self.last['total']:.4f}"

    def _check(self) -> tuple[DataFacts, int]:
        """Everything that can be wrong, before any work; the data's facts, the number of steps."""
        self._check_folder()
        backbone = Backbone.load(self.config.model, device="cpu")
        State.fresh(self.config, backbone)
        samples, unreadable = self.data, 0
        if isinstance(samples, Path):
            if self.config.augment != "none":
                raise FtiError(
                    f"augment={self.config.augment} changes the pictures, and a cache holds the "
                    "features of unchanged ones; leave out one of the two"
                )
            cache = Cache.open(samples)
            cache.check_model(backbone.fingerprint)
            samples, unreadable = cache.samples, cache.unreadable
        order = Order(len(samples), self.config.batch, self.config.seed)
        steps = self.config.epochs * order.steps_per_epoch
        cached = isinstance(self.data, Path)
        facts = DataFacts.of(samples, backbone.fingerprint.weights, cached, unreadable)
        if self.resume and self.storage.holds_a_run():
            facts.check_same(DataFacts.read(self.out))
        return facts, min(steps, self.config.steps or steps)

    def _check_folder(self) -> None:
        """Raises CheckpointError where another run's checkpoints are in the way."""
        if not self.storage.holds_a_run():
            return
        if not self.resume:
            raise CheckpointError(
                f"{self.storage} holds checkpoints; pass --resume to go on with them, "
                "or another --out"
            )
        then = read_config(self.out).identity()
        changed = [name for name, value in self.config.identity().items() if then[name] != value]
        if changed:
            told = ", ".join(f"{name} was {then[name]}" for name in changed)
            raise CheckpointError(
                f"{self.storage} belongs to a run with other settings ({told}); "
                "train into another --out"
            )

    def _check_gpus(self) -> None:
        """Ray would wait for them for ever."""
        import ray

        share, workers = self.config.gpus_per_worker, self.config.workers
        if workers > 1 and share % 1:
            raise FtiError(f"gpus_per_worker={share:g}: workers cannot share a GPU; use whole ones")
        check_gpus(workers, share)
        there = ray.cluster_resources().get("GPU", 0)
        if there and not share:
            told = f"training on CPUs; the cluster has {there:g} GPUs: --gpus-per-worker 1 uses one"
            print(told, file=sys.stderr)

    def _train(self, job: Job) -> Any:
        from ray.train import CheckpointConfig, FailureConfig, RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError

        gpus = self.config.gpus_per_worker
        resources = {"CPU": WORKER_CPUS, **({"GPU": gpus} if gpus else {})}
        kept = CheckpointConfig(
            num_to_keep=2,
            checkpoint_score_attribute=SCORE if self.config.validate_on == "emoji" else None,
        )
        trainer = TorchTrainer(
            work,
            train_loop_config={"job": job},
            scaling_config=ScalingConfig(
                num_workers=self.config.workers, use_gpu=gpus > 0, resources_per_worker=resources
            ),
            run_config=RunConfig(
                **self.storage.run_config(),
                failure_config=FailureConfig(max_failures=self.config.max_failures),
                checkpoint_config=kept,
            ),
        )
        try:
            return trainer.fit()
        except TrainingFailedError as error:
            raise _first_failure(error) from error

    def _keep(self, result: Any) -> Path:
        """Copies the newest inverter, and the best one, out of their checkpoints."""
        copy_inverter(result.checkpoint, self.out / INVERTER)
        if self.config.validate_on == "emoji":
            best = result.get_best_checkpoint(SCORE, "max")
            copy_inverter(best, self.out / BEST)
        return self.out / INVERTER

    @contextmanager
    def _listening(self, mailbox: Mailbox, steps: int) -> Iterator[None]:
        """Shows and records what the workers tell, while the driver waits for them."""
        records, over = Records(self.out), threading.Event()
        before = read_rejects(self.out / REJECTS) if self.resume else []
        failed: list[Exception] = []
        with RejectsFile(self.out / REJECTS) as rejects, step_progress() as progress:
            task = progress.add_task("fit", total=steps)
            for reject in before:
                self._heard(Skipped(reject), records, rejects)

            def listen() -> None:
                try:
                    hear()
                except Exception as error:  # told by the driver, when the workers are done
                    failed.append(error)

            def hear() -> None:
                while True:
                    ended = over.is_set()
                    event = mailbox.take(seconds=0.5)
                    if event is None and ended:
                        return
                    if event is not None:
                        described = self._heard(event, records, rejects)
                        progress.update(task, **described)

            listener = threading.Thread(target=listen, daemon=True)
            listener.start()
            try:
                yield
            finally:
                over.set()
                listener.join()
                records.close()
            if failed:
                raise OutputUnavailable(f"the log could not be kept: {failed[0]}") from failed[0]

    def _heard(self, event: Event, records: Records, rejects: RejectsFile) -> dict[str, Any]:
        """Records an event; what the progress bar shows of it."""
        if isinstance(event, Began):
            records.begin(event.step)
            return {"completed": event.step}
        if isinstance(event, Validated):
            records.validated(event.step, event.figures)
            return {}
        if isinstance(event, Skipped):
            if event.reject.uri not in self.skipped:
                self.skipped.add(event.reject.uri)
                rejects.add(event.reject)
            return {}
        records.stepped(event.step, event.parts)
        self.last = {"step": event.step, **event.parts}
        return {"completed": event.step, "description": brief(event)}


def brief(event: Stepped) -> str:
    """A step's figures, short enough for a bar beside them."""
    parts = event.parts
    losses = " ".join(f"{parts[name]:.3f}" for name in ("contrastive", "orthogonality", "tri_wise"))
    rate = parts["images_per_s"]
    return f"loss {parts['total']:.3f} ({losses}) r {parts['mean_count']:.1f} {rate:.1f}/s"


def read_config(out: Path) -> FitConfig:
    """The settings of the run in a folder. Raises CheckpointError where they are not there."""
    try:
        return FitConfig.model_validate_json((out / CONFIG).read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(
            f"{str(out / CONFIG)!r} cannot be read: {str(error).splitlines()[0]}; "
            "it says what the run in this folder was"
        ) from error


def copy_inverter(checkpoint: Any, target: Path) -> None:
    """Whole or not at all."""
    fresh = target.with_name(target.name + ".part")
    shutil.rmtree(fresh, ignore_errors=True)
    with checkpoint.as_directory() as folder:
        shutil.copytree(Path(folder) / INVERTER, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.replace(target)


def _first_failure(error: BaseException) -> FtiError:
    """What a worker raised; ours rather than what it made the others raise."""
    failures = [failure for _, failure in sorted(getattr(error, "worker_failures", {}).items())]
    for failure in failures:
        cause = getattr(failure, "cause", None) or failure.__cause__ or failure
        if isinstance(cause, FtiError):
            return cause
    return worker_error(failures[0] if failures else error)


def _absolute(data: Samples | Path) -> Samples | Path:
    return data.resolve() if isinstance(data, Path) else data
