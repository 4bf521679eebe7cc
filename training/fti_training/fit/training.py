"""The training of one worker: what Ray Train runs in each process of the group."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.parallel import DistributedDataParallel

from fti_ingest.engine.resources import threads_per_worker
from fti_qdrant.model.backbone import Backbone
from fti_training.cache.layout import Cache
from fti_training.distributed import Alone, Together, World
from fti_training.fit.batches import Batch, Batches, CachedBatches, PictureBatches
from fti_training.fit.config import FitConfig
from fti_training.fit.sampling_order import Order
from fti_training.fit.state import State
from fti_training.fit.validate import validation
from fti_training.loop.events import Began, Mailbox, Skipped, Stepped, Validated
from fti_training.loop.update import Update
from fti_training.precision import autocast, of_frozen
from fti_training.samples import Samples
from fti_training.step import InverterStep, StepLoss, Weights


@dataclass(frozen=True)
class Job:
    """What every worker is given.

    Attributes:
        data: samples to read the pictures of, or the folder of a cache.
        steps: of the whole run.
    """

    config: FitConfig
    data: Samples | Path
    steps: int
    mailbox: Mailbox


def work(job: dict[str, Job]) -> None:
    """Trains from the newest checkpoint to the end; Ray Train calls it in each worker."""
    import ray
    from ray.train.torch import get_device

    torch.set_num_threads(threads_per_worker(job["job"].config.workers))
    world = Together() if job["job"].config.workers > 1 else Alone()
    Worker(job["job"], world, str(get_device())).run()
    ray.train.report({})


class Worker:
    """One process of the group."""

    def __init__(self, job: Job, world: World, device: str):
        config = job.config
        self.job, self.config, self.world = job, config, world
        precision = of_frozen(config.precision, device)
        self.backbone = Backbone.load(config.model, device=device, precision=precision)
        self.state = State.fresh(config, self.backbone)
        self._resume()
        weights = Weights(config.orthogonality_weight, config.tri_wise_weight, config.temperature)
        self.step = InverterStep(self.backbone, self.state.inverter, weights, world).train()
        self.spread = DistributedDataParallel(self.step) if world.size > 1 else self.step
        self.batches, order = self._data()
        self.update = Update(
            "fit",
            self.state.inverter.parameters(),
            self.state.optimizer,
            config.schedule_over(job.steps, order.steps_per_epoch),
            config.gradient_clip,
            self.state.scaler,
        )
        self.validate = validation(config.validate_on) if world.rank == 0 else None

    def run(self) -> None:
        start, stop = self.state.step, self.job.steps
        self._post_began()
        began, since = time.monotonic(), start
        for number, batch in zip(range(start, stop), self.batches.parts(start, stop), strict=True):
            loss = self._train(number, batch)
            done = self.state.step
            if done % self.config.log_every == 0 or done == stop:
                now = time.monotonic()
                rate = (done - since) * self.config.batch / (now - began)
                self._log(loss, rate)
                began, since = now, done
            if done % self.config.checkpoint_every == 0 or done == stop:
                self._checkpoint()
                began, since = time.monotonic(), done

    def _train(self, number: int, batch: Batch) -> StepLoss:
        seed = np.random.SeedSequence([self.config.seed, number, self.world.rank])
        torch.manual_seed(int(seed.generate_state(1)[0]))
        with autocast(self.config.precision, self.backbone.device.type):
            loss: StepLoss = self.spread(batch.features, batch.captions, batch.sentences)
        self.update(loss.total, number)
        self.state.stepped()
        for reject in batch.rejects:
            self.job.mailbox.post(Skipped(reject))
        return loss

    def _data(self) -> tuple[Batches, Order]:
        config, world = self.config, self.world
        if isinstance(self.job.data, Path):
            cache = Cache.open(self.job.data)
            order = Order(len(cache.samples), config.batch, config.seed)
            return CachedBatches(cache, self.backbone.device, order, world), order
        order = Order(len(self.job.data), config.batch, config.seed)
        pictures = PictureBatches(
            self.backbone, self.job.data, order, world, config.augment == "jitter", config.seed
        )
        return pictures, order

    def _resume(self) -> None:
        import ray.train

        newest = ray.train.get_checkpoint()
        if newest is not None:
            with newest.as_directory() as folder:
                self.state.restore(Path(folder))

    def _post_began(self) -> None:
        if self.world.rank == 0:
            self.job.mailbox.post(Began(self.state.step))

    def _log(self, loss: StepLoss, rate: float) -> None:
        """Every worker comes here, as the parts are averaged over all; the first one tells."""
        parts = loss.log(self.world)
        if self.world.rank == 0:
            lr = self.state.optimizer.param_groups[0]["lr"]
            told = {**parts, "images_per_s": rate, "lr": lr}
            self.job.mailbox.post(Stepped(self.state.step, told))

    def _checkpoint(self) -> None:
        """Every worker comes here, as a report waits for all; the first one writes."""
        import ray.train
        from ray.train import Checkpoint

        self.step.sentences.forget()
        if self.world.rank != 0:
            ray.train.report({})
            return
        figures: dict[str, float] = {}
        if self.validate is not None:
            figures = self.validate(self.backbone, self.state.kept)
            self.job.mailbox.post(Validated(self.state.step, figures))
        with tempfile.TemporaryDirectory() as folder:
            self.state.save(Path(folder))
            ray.train.report(
                {"step": self.state.step, **figures}, checkpoint=Checkpoint.from_directory(folder)
            )
