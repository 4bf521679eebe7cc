"""What ``fti-train fit`` trains, on what, and for how long."""

from __future__ import annotations

from typing import Literal

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

    latents: PositiveInt = 24
    layers: PositiveInt = 3
    topk: PositiveInt = 12
    epsilon: NonNegativeFloat = 0.05
    dropout: float = Field(0.5, ge=0, lt=1)
    project_relevance: bool = False

    precision: Precision = "auto"
    augment: Literal["none", "jitter"] = "none"
    """jitter turns, scales and shifts each picture a little, differently at each step."""

    validate_on: Literal["auto", "emoji", "none"] = "auto"
    """Zero-shot validation at each checkpoint; auto is emoji where its packages are installed."""
    checkpoint_every: PositiveInt = 500
    log_every: PositiveInt = 10
    workers: PositiveInt = 1
    gpus_per_worker: NonNegativeFloat = 0
    max_failures: NonNegativeInt = 3
    """How many lost workers or nodes a run on Ray survives."""

    @model_validator(mode="after")
    def _parts_are_equal(self) -> FitConfig:
        if self.batch % self.workers:
            raise ValueError(
                f"batch={self.batch} does not divide among workers={self.workers}; "
                "make it a multiple"
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
        return self.model_dump(mode="json", exclude=set(self.may_change()))

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

RUNNING = (
    *("validate_on", "checkpoint_every", "log_every"),
    *("workers", "gpus_per_worker", "max_failures"),
)
"""Settings about how a run is run. The loss is the same over any number of workers; each worker
draws its own dropout masks and jitter."""
