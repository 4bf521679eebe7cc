"""Inverter training in one process: alone on this machine, or one of several workers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch.nn.parallel import DistributedDataParallel

from fti_ingest.engine.protocol import Engine
from fti_qdrant.model.backbone import Backbone
from fti_training.cache.layout import Cache
from fti_training.distributed import ProcessGroup
from fti_training.fit.batches import Batches, CachedBatches, PictureBatches, step_seed
from fti_training.fit.config import FitConfig
from fti_training.fit.sampling_order import SamplingOrder
from fti_training.fit.state import InverterState
from fti_training.fit.validate import EmojiValidation
from fti_training.loop.context import RunContext
from fti_training.loop.events import Skipped
from fti_training.loop.training_loop import Figures, Losses, StepResult, TrainingLoop
from fti_training.loop.update import Update
from fti_training.precision import autocast
from fti_training.samples import Samples
from fti_training.step import InverterStep, Weights


@dataclass(frozen=True)
class FitJob:
    """What every worker of a run needs to know.

    Attributes:
        data: samples whose pictures are read, or the folder of a cache.
        steps: of the whole run.
    """

    config: FitConfig
    data: Samples | Path
    steps: int


class InverterTraining:
    """The training of one process; ``run`` goes from the newest checkpoint to the end."""

    def __init__(
        self,
        job: FitJob,
        backbone: Backbone,
        context: RunContext,
        group: ProcessGroup,
        engine: Engine,
    ):
        """``engine`` decodes the pictures; a cache needs none."""
        self.job, self.config = job, job.config
        self.backbone, self.context, self.group = backbone, context, group
        self.state = InverterState.initial(job.config, backbone)
        self.step = InverterStep(backbone, self.state.model, _weights(job.config), group).train()
        self.parallel = DistributedDataParallel(self.step) if group.size > 1 else self.step
        self.batches, self.order = self._data(engine)

    def run(self) -> None:
        """Raises as ``TrainingLoop.run``, and BadImage where no picture of a batch is readable."""
        config = self.config
        emoji = EmojiValidation()

        def validated() -> Figures:
            return emoji(self.backbone, self.state.kept)

        loop = TrainingLoop(
            state=self.state,
            update=Update(
                "fit",
                self.state.model.parameters(),
                self.state.optimizer,
                config.schedule_over(self.job.steps, self.order.steps_per_epoch),
                config.gradient_clip,
                self.state.scaler,
            ),
            context=self.context,
            steps=self.job.steps,
            batch=config.batch,
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            validate=validated if config.validate_on == "emoji" else None,
            before_checkpoint=self.step.sentences.clear,
        )
        loop.run(self._results)

    def _results(self, steps: range) -> Losses:
        with closing(self.batches.parts(steps)) as batches:
            for number, batch in zip(steps, batches, strict=True):
                torch.manual_seed(step_seed(self.config.seed, number, self.group.rank))
                with autocast(self.config.precision, self.backbone.device.type):
                    loss = self.parallel(batch.features, batch.captions, batch.sentences)
                for reject in batch.rejects:
                    self.context.report(Skipped(reject))
                yield StepResult(loss.total, partial(loss.figures, self.group))

    def _data(self, engine: Engine) -> tuple[Batches, SamplingOrder]:
        config, group = self.config, self.group
        if isinstance(self.job.data, Path):
            cache = Cache.open(self.job.data)
            order = SamplingOrder(len(cache.samples), config.batch, config.seed)
            return CachedBatches(cache, self.backbone.device, order, group), order
        order = SamplingOrder(len(self.job.data), config.batch, config.seed)
        jitter = config.augment == "jitter"
        pictures = PictureBatches(
            self.backbone, self.job.data, order, group, engine, jitter, config.seed
        )
        return pictures, order


def _weights(config: FitConfig) -> Weights:
    return Weights(config.orthogonality_weight, config.tri_wise_weight, config.temperature)
