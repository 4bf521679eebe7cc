"""What ``fti-train fit`` trains, on what, and for how long."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)

from fti_training.loop.update import Cosine, Decay, Schedule
from fti_training.losses import TEMPERATURE, TRI_WISE_WEIGHT
from fti_training.precision import Precision

AUTO, EMOJI, NONE, CAPTIONS = "auto", "emoji", "none", "captions"
"""Values of ``validate_on`` beside the names of benchmarks."""


class FitConfig(BaseModel):
    """One run; the defaults are FTI4CIR's official constants.

    The weights after a step depend on all settings but those that a resumed run may change; see
    ``may_change``.
    """

    model_config = ConfigDict(
        extra="forbid", frozen=True, protected_namespaces=(), allow_inf_nan=False
    )

    model: str = "mini"
    seed: NonNegativeInt = 0
    epochs: PositiveInt = 60
    steps: PositiveInt | None = None
    """Ends the run before its epochs do."""
    batch: PositiveInt = Field(256, ge=2)
    """Of all workers together."""

    lr: PositiveFloat = 4e-5
    weight_decay: NonNegativeFloat = 0.01
    warmup_steps: NonNegativeInt = 0
    schedule: Literal["decay", "cosine"] = "decay"
    decay_epoch: PositiveInt = 10
    decay_factor: PositiveFloat = 0.1
    gradient_clip: PositiveFloat = 1.0
    average: float | None = Field(None, gt=0, lt=1)
    """Decay of a moving average of the weights (EMA); the average is then validated and kept."""

    temperature: PositiveFloat = TEMPERATURE
    orthogonality_weight: NonNegativeFloat = 1.0
    tri_wise_weight: NonNegativeFloat = TRI_WISE_WEIGHT

    triplet_weight: PositiveFloat | None = None
    """Of the loss on the composed queries of --triplets, which FTI4CIR does without.  By default 1
    with --triplets."""
    triplet_batch: PositiveInt = 64
    """Composed queries of a step, of all workers together."""
    triplet_temperature: PositiveFloat = 0.1

    latents: PositiveInt = 24
    layers: PositiveInt = 3
    topk: PositiveInt = 12
    epsilon: NonNegativeFloat = 0.05
    dropout: float = Field(0.5, ge=0, lt=1)
    project_relevance: bool = False

    precision: Precision = "auto"
    augment: Literal["none", "jitter"] = "none"
    """jitter turns, scales and shifts each picture a little, differently at each step."""

    validate_on: str = AUTO
    """Validation at each checkpoint: a benchmark's name, captions (needs held_out), none, or auto:
    emoji where its packages are installed. NAME:DIR sets validate_root too, captions:SHARE
    held_out."""
    validate_root: str | None = None
    """Folder of the benchmark's data."""
    validate_split: str | None = None
    """Of the benchmark; by default its first, and for emoji the held-out edits."""
    held_out: float = Field(0, ge=0, le=0.5)
    """Share of the pictures that is kept out of training."""
    best_by: str | None = None
    """The validation figure by which the best checkpoint is chosen, such as cirr_R@5 or
    captions_loss; by default the main one."""
    stop_after: PositiveInt | None = None
    """Ends the run after so many validations without a better best_by."""
    checkpoint_every: PositiveInt = 500
    log_every: PositiveInt = 10
    workers: PositiveInt = 1
    gpus_per_worker: NonNegativeFloat = 0
    max_failures: NonNegativeInt = 3
    """How many lost workers or nodes a run on Ray survives."""

    @model_validator(mode="before")
    @classmethod
    def _split_validation(cls, given: Any) -> Any:
        """``cirr:DIR`` is two settings in one, and so is ``captions:0.05``."""
        value = given.get("validate_on") if isinstance(given, dict) else None
        name, colon, rest = value.partition(":") if isinstance(value, str) else ("", "", "")
        if not colon:
            return given
        setting = "held_out" if name == CAPTIONS else "validate_root"
        if given.get(setting) and str(given[setting]) != rest:
            raise ValueError(f"validate_on={value} and {setting}={given[setting]} are two answers")
        return {**given, "validate_on": name, setting: rest}

    @model_validator(mode="after")
    def _validation_is_complete(self) -> FitConfig:
        if self.validate_on == CAPTIONS and not self.held_out:
            raise ValueError(
                "validate_on=captions needs the share of the pictures to hold out, as in "
                "captions:0.05"
            )
        if self.validate_on in (AUTO, NONE, CAPTIONS):
            for name in ("validate_root", "validate_split"):
                if getattr(self, name) is not None:
                    raise ValueError(
                        f"{name}={getattr(self, name)} belongs to a benchmark, and validate_on is "
                        f"{self.validate_on}"
                    )
        return self

    @model_validator(mode="after")
    def _parts_are_equal(self) -> FitConfig:
        if self.batch % self.workers:
            raise ValueError(
                f"batch={self.batch} does not divide among workers={self.workers}; "
                "make it a multiple"
            )
        if self.triplet_weight and self.triplet_batch % self.workers:
            raise ValueError(
                f"triplet_batch={self.triplet_batch} does not divide among "
                f"workers={self.workers}; make it a multiple"
            )
        return self

    def schedule_over(self, steps: int, steps_per_epoch: int) -> Schedule:
        """The learning rates of a run of ``steps``."""
        if self.schedule == "cosine":
            return Cosine(steps, self.lr, self.warmup_steps)
        decay_at = self.decay_epoch * steps_per_epoch
        return Decay(self.lr, self.warmup_steps, decay_at, self.decay_factor)

    def identity(self) -> dict[str, object]:
        """The settings that the weights after a step depend on."""
        # checkpoints of earlier versions know of no held-out pictures, and of no triplets
        unused = set() if self.held_out else {"held_out"}
        unused |= set() if self.triplet_weight else set(TRIPLETS)
        return self.model_dump(mode="json", exclude={*self.may_change(), *unused})

    def may_change(self) -> tuple[str, ...]:
        """The settings that a resumed run may change.

        Its length is one of them, so that a finished run can be extended, unless the schedule
        spreads the learning rate over all steps.

        Example:
            >>> "steps" in FitConfig().may_change()
            True
            >>> "steps" in FitConfig(schedule="cosine").may_change()
            False
        """
        return RUNNING if self.schedule == "cosine" else (*LENGTH, *RUNNING)


LENGTH = ("epochs", "steps")

TRIPLETS = ("triplet_weight", "triplet_batch", "triplet_temperature")

RUNNING = (
    *("validate_on", "checkpoint_every", "log_every"),
    *("workers", "gpus_per_worker", "max_failures"),
    *("validate_root", "validate_split", "best_by", "stop_after"),
)
"""Settings about how a run is run. The loss is the same over any number of workers; each worker
draws its own dropout masks and jitter."""
