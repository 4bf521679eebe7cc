"""What a training loop reports while it runs."""

from __future__ import annotations

from dataclasses import dataclass

from fti_ingest.sources.source import Reject


@dataclass(frozen=True)
class Began:
    """Training starts, or resumes, after ``step`` steps."""

    step: int


@dataclass(frozen=True)
class Stepped:
    """The figures of step ``step``: the losses, samples per second, the learning rate."""

    step: int
    figures: dict[str, float]


@dataclass(frozen=True)
class Validated:
    """The validation figures of the weights after ``step`` steps."""

    step: int
    figures: dict[str, float]


@dataclass(frozen=True)
class Stopped:
    """Early stopping ended the run after ``step`` steps; the best figures were at ``best``."""

    step: int
    best: int


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read."""

    reject: Reject


Event = Began | Stepped | Validated | Stopped | Skipped
