"""``fti-train fit`` from end to end: checks, training, and the inverters that it leaves."""

from __future__ import annotations

import logging
import shutil
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from pydantic import ValidationError

from fti_ingest.engine.choose import EngineChoice, open_engine
from fti_ingest.engine.local import LocalEngine
from fti_qdrant.atomic_files import replacing, write_text
from fti_qdrant.errors import CheckpointError, FtiError, OutputUnavailable, first_line
from fti_qdrant.model.backbone import Backbone
from fti_training.cache.layout import Cache
from fti_training.distributed import SingleProcess
from fti_training.fit.config import FitConfig
from fti_training.fit.data_facts import DataFacts
from fti_training.fit.held_out import divide
from fti_training.fit.sampling_order import SamplingOrder
from fti_training.fit.state import INVERTER, InverterState
from fti_training.fit.training import FitJob, InverterTraining
from fti_training.fit.triplet_batches import BothPictures
from fti_training.fit.validate import best_figure, with_validation
from fti_training.loop.checkpoint_storage import CheckpointStorage, StoredCheckpoint
from fti_training.loop.context import LocalContext
from fti_training.loop.events import Stopped
from fti_training.loop.recorder import Recorder, recording
from fti_training.loop.records import has_tensorboard
from fti_training.loop.state import check_same_settings
from fti_training.precision import backbone_precision
from fti_training.samples import Samples
from fti_training.triplet_table import TripletTable

logger = logging.getLogger(__name__)

CONFIG, BEST = "config.json", "best"


@dataclass
class FitRun:
    """One training run.

    Attributes:
        data: samples whose pictures are read, or the folder of a cache.
        triplets: composed queries whose answers are known; those that name a picture that is held
            out are left out.
        out: folder of the inverter, the logs and, by default, the checkpoints.
        skipped: URIs of the pictures that could not be read.
        skipped_triplets: how many triplets name one of these.
        last: the figures of the last logged step; empty where nothing was left to do.
        steps: of the whole run.
        stopped: where early stopping ended it; None where it went to its last step.
    """

    config: FitConfig
    data: Samples | Path
    out: Path
    storage: CheckpointStorage
    engine: EngineChoice = field(default_factory=EngineChoice)
    triplets: TripletTable | None = None
    resume: bool = False
    skipped: set[str] = field(default_factory=set, init=False)
    skipped_triplets: int = field(default=0, init=False)
    last: dict[str, float] = field(default_factory=dict, init=False)
    steps: int = field(default=0, init=False)
    stopped: Stopped | None = field(default=None, init=False)

    def run(self) -> Path:
        """Trains to the end; the folder of the trained inverter.

        Raises:
            CheckpointError: another run's folder, or a loss that is not finite.
            ModelMismatch: a cache of another model.
            OutputUnavailable: a file cannot be written.
            BadBenchmark: a benchmark to validate on that is not there, or not whole.
            FtiError: fewer samples than a batch; GPUs that are not there.
        """
        self.config = with_validation(self.config)
        figure = best_figure(self.config)
        self.config = self.config.model_copy(update={"best_by": figure})
        self.storage = replace(self.storage, score=figure)
        if not has_tensorboard():
            logger.warning("the package tensorboard is not installed: the log is CSV only")
        self._check_folder()
        backbone = self._backbone()
        facts, job = self._check_data(backbone)
        self.steps = job.steps
        try:
            write_text(self.out / CONFIG, self.config.model_dump_json(indent=2) + "\n")
            facts.write(self.out)
        except OSError as error:
            raise OutputUnavailable(
                f"{str(self.out)!r} cannot be written: {first_line(error)}; choose another --out"
            ) from error
        with recording("fit", self.out, job.steps, self.resume) as recorder:
            self._train(job, backbone, recorder)
        self.skipped, self.last = recorder.skipped, recorder.last
        self.stopped = recorder.stopped
        if self.triplets is not None:
            self.skipped_triplets = self.triplets.unreadable(self.skipped)
        facts.after(self._captioned(self.skipped), self.skipped_triplets).write(self.out)
        return self._keep()

    def _captioned(self, uris: set[str]) -> int:
        """How many of these pictures have captions; those of a cache are all readable."""
        if isinstance(self.data, Path):
            return 0
        return len(uris.intersection(self.data.table["uri"].to_pylist()))

    def summary(self) -> str:
        """What came of it, in a line."""
        if self.stopped is not None:
            best, score = self.stopped.best, self.storage.score
            return (
                f"stopped early after {self.stopped.step:,} steps: {score} was best at step "
                f"{best:,}, and {self.config.stop_after} validations brought no better one; a "
                "larger --stop-after continues with --resume"
            )
        if not self.last:
            return f"the run was already complete: {self.steps:,} steps; --steps extends it"
        return f"{self.last['step']:,.0f} steps, loss {self.last['total']:.4f}"

    def _train(self, job: FitJob, backbone: Backbone, recorder: Recorder) -> None:
        if self.engine.resolved == "local":
            context = LocalContext(self.storage, recorder.handle)
            InverterTraining(job, backbone, context, SingleProcess(), LocalEngine()).run()
            return
        from fti_training.fit.ray_training import train_with_ray

        with open_engine(self.engine):
            train_with_ray(job, self.storage, recorder.handle)

    def _backbone(self) -> Backbone:
        """The one to train on; under Ray the workers load it again, and this one only checks."""
        local = self.engine.resolved == "local"
        device = "cuda" if local and torch.cuda.is_available() else "cpu"
        precision = backbone_precision(self.config.precision, device)
        return Backbone.load(self.config.model, device=device, precision=precision)

    def _check_folder(self) -> None:
        """Raises CheckpointError where another run's checkpoints are in the way."""
        if self.storage.newest() is None:
            return
        if not self.resume:
            raise CheckpointError(
                f"{self.storage} holds checkpoints; pass --resume to continue from them, "
                "or another --out"
            )
        then = read_config(self.out).model_dump(mode="json")
        always = {"held_out": self.config.held_out, "triplet_weight": self.config.triplet_weight}
        now = {**self.config.identity(), **always}
        may_change = ", ".join(self.config.may_change())
        hint = f". A resumed run may change {may_change}"
        if self.config.schedule == "cosine":
            hint += "; its length only with schedule=decay"
        check_same_settings(str(self.storage), then, now, hint)

    def _check_data(self, backbone: Backbone) -> tuple[DataFacts, FitJob]:
        """All that can be wrong with the data, before any work."""
        InverterState.initial(self.config, backbone)
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
        chosen, held_out = divide(samples, self.config.held_out, self.config.seed)
        order = SamplingOrder.over(chosen, len(samples), self.config.batch, self.config.seed)
        steps = self.config.epochs * order.steps_per_epoch
        cached = isinstance(self.data, Path)
        if self.triplets is not None:
            self.triplets = self.triplets.without(samples.uris(held_out).to_pylist())
            if self.triplets.held_out:
                logger.warning(
                    "%s triplets name pictures that are held out, and are left out",
                    f"{self.triplets.held_out:,}",
                )
            BothPictures.over(self.triplets, self.config.triplet_batch, self.config.seed)
        facts = DataFacts.of(
            samples,
            self.triplets,
            backbone.fingerprint.weights,
            cached=cached,
            unreadable=unreadable,
            held_out=len(held_out),
        )
        if self.resume and self.storage.newest() is not None:
            facts.check_same(DataFacts.read(self.out))
        length = min(steps, self.config.steps or steps)
        if length < (self.config.steps or length):
            logger.warning(
                "the run ends after %s steps: these are its %s epochs; raise --epochs for %s steps",
                *(f"{length:,}", self.config.epochs, f"{self.config.steps:,}"),
            )
        self._check_length(length)
        return facts, FitJob(self.config, self.data, length, self.triplets)

    def _check_length(self, steps: int) -> None:
        """Raises CheckpointError where the run has made more steps than it would now have."""
        newest = self.storage.newest()
        if newest is not None and newest.step > steps:
            raise CheckpointError(
                f"{self.storage} holds a run of {newest.step:,} steps already, and {steps:,} are "
                "asked for; a run can be extended, not shortened: pass more --steps or --epochs, "
                "or another --out"
            )

    def _keep(self) -> Path:
        """Copies the newest inverter, and the best one, out of their checkpoints."""
        newest, best = self.storage.newest(), self.storage.best()
        if newest is None:
            raise CheckpointError(f"{self.storage} holds no checkpoint of this run any more")
        self._copy(newest, self.out / INVERTER)
        if best is not None:
            self._copy(best, self.out / BEST)
        return self.out / INVERTER

    def _copy(self, checkpoint: StoredCheckpoint, target: Path) -> None:
        with self.storage.opened(checkpoint) as folder, replacing(target) as part:
            shutil.copytree(folder / INVERTER, part)


def read_config(out: Path) -> FitConfig:
    """The settings of the run in a folder. Raises CheckpointError where they are not there."""
    try:
        return FitConfig.model_validate_json((out / CONFIG).read_bytes())
    except (OSError, ValidationError) as error:
        raise CheckpointError(
            f"{str(out / CONFIG)!r} cannot be read: {first_line(error)}; "
            "it holds the settings of the run in this folder"
        ) from error
