"""Inverter training in one process: alone on this machine, or one of several workers."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pyarrow as pa
import torch
from torch.nn.parallel import DistributedDataParallel

from fti_ingest.engine.local import LocalEngine
from fti_ingest.engine.protocol import Engine
from fti_qdrant.model.backbone import Backbone
from fti_training.cache.layout import Cache
from fti_training.distributed import ProcessGroup, SingleProcess
from fti_training.fit.batches import Batch, Batches, CachedBatches, PictureBatches
from fti_training.fit.benchmark_validation import BenchmarkValidation
from fti_training.fit.caption_validation import CaptionValidation, RowsInOrder
from fti_training.fit.config import CAPTIONS, NONE, FitConfig
from fti_training.fit.held_out import divide
from fti_training.fit.picture_parts import PictureParts, step_seed
from fti_training.fit.sampling_order import Parts, SamplingOrder
from fti_training.fit.state import InverterState
from fti_training.fit.triplet_batches import BatchesWithTriplets, BothPictures, TripletBatches
from fti_training.fit.validate import (
    EmojiValidation,
    Validation,
    open_benchmark_validation,
    uses_benchmark,
)
from fti_training.loop.best_figure import EarlyStopping
from fti_training.loop.context import RunContext
from fti_training.loop.events import Skipped
from fti_training.loop.training_loop import Figures, Losses, StepResult, TrainingLoop
from fti_training.loop.update import Update
from fti_training.precision import autocast
from fti_training.samples import Samples
from fti_training.step import InverterStep, Weights
from fti_training.triplet_table import TripletTable


@dataclass(frozen=True)
class FitJob:
    """What every worker of a run needs to know.

    Attributes:
        data: samples whose pictures are read, or the folder of a cache.
        steps: of the whole run.
        triplets: composed queries whose answers are known.
    """

    config: FitConfig
    data: Samples | Path
    steps: int
    triplets: TripletTable | None = None


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
        self.cache = Cache.open(job.data) if isinstance(job.data, Path) else None
        chosen, self.held_out = divide(self.samples, self.config.held_out, self.config.seed)
        total, batch, seed = len(self.samples), self.config.batch, self.config.seed
        self.order = SamplingOrder.over(chosen, total, batch, seed)
        self.batches = self._with_triplets(self._batches(self.order, group, engine), engine)
        self.validation = self._validation() if context.leads else None

    @property
    def samples(self) -> Samples:
        """All of them, the held-out ones too."""
        if self.cache is not None:
            return self.cache.samples
        assert isinstance(self.job.data, Samples)
        return self.job.data

    def run(self) -> None:
        """Raises as ``TrainingLoop.run``, and BadImage where no picture of a batch is readable."""
        config, validation = self.config, self.validation

        def validated() -> Figures:
            assert validation is not None
            return validation(self.backbone, self.state.kept)

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
            validate=None if validation is None else validated,
            before_checkpoint=self.step.sentences.clear,
            stopping=self._stopping(),
            agree=self.group.any,
        )
        loop.run(self._results)

    def _stopping(self) -> EarlyStopping | None:
        figure, patience = self.config.best_by, self.config.stop_after
        return EarlyStopping(figure, patience) if figure and patience else None

    def _validation(self) -> Validation | None:
        config = self.config
        if config.validate_on == NONE:
            return None
        if config.validate_on == CAPTIONS:
            return self._caption_validation(RowsInOrder(self.held_out, config.batch))
        return open_benchmark_validation(config) if uses_benchmark(config) else EmojiValidation()

    def _caption_validation(self, order: RowsInOrder) -> CaptionValidation:
        """Pictures are decoded here, in whichever process leads."""
        return CaptionValidation(
            self._batches(order, SingleProcess(), LocalEngine(), augmented=False),
            order.steps,
            keeps=self.cache is None,
            weights=_weights(self.config),
            autocast=lambda: autocast(self.config.precision, self.backbone),
            report=self._report_rejects,
        )

    def _report_rejects(self, batch: Batch) -> None:
        for reject in batch.rejects:
            self.context.report(Skipped(reject))

    def _results(self, steps: range) -> Losses:
        if len(steps) and isinstance(self.validation, BenchmarkValidation):
            self.validation.embed(self.backbone)  # an unreadable image is found before any step
        with closing(self.batches.parts(steps)) as batches:
            for number, batch in zip(steps, batches, strict=True):
                torch.manual_seed(step_seed(self.config.seed, number, self.group.rank))
                with autocast(self.config.precision, self.backbone):
                    loss = self.parallel(
                        batch.features, batch.captions, batch.sentences, batch.triplets
                    )
                self._report_rejects(batch)
                yield StepResult(loss.total, partial(loss.figures, self.group))

    def _with_triplets(self, batches: Batches, engine: Engine) -> Batches:
        table, config = self.job.triplets, self.config
        if table is None:
            return batches
        order = BothPictures.over(table, config.triplet_batch, config.seed)
        pictures = self._pictures(table.pictures, order, self.group, engine)
        return BatchesWithTriplets(batches, TripletBatches(pictures, table), self.samples)

    def _batches(
        self, order: Parts, group: ProcessGroup, engine: Engine, augmented: bool = True
    ) -> Batches:
        if self.cache is not None:
            return CachedBatches(self.cache, self.backbone.device, order, group)
        pictures = self._pictures(self.samples.table["uri"], order, group, engine, augmented)
        return PictureBatches(pictures, self.samples)

    def _pictures(
        self,
        uris: pa.ChunkedArray,
        order: Parts,
        group: ProcessGroup,
        engine: Engine,
        augmented: bool = True,
    ) -> PictureParts:
        jitter = augmented and self.config.augment == "jitter"
        return PictureParts(self.backbone, uris, order, group, engine, jitter, self.config.seed)


def _weights(config: FitConfig) -> Weights:
    return Weights(
        config.orthogonality_weight,
        config.tri_wise_weight,
        config.temperature,
        config.triplet_weight or 0.0,
        config.triplet_temperature,
    )
