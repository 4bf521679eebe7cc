"""Which checkpoint is the best by a validation figure, and when none better has come for long."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

Validated = Mapping[int, Mapping[str, float]]
"""Step -> the validation figures of the weights after it, in order."""


def best_step(validated: Validated, figure: str) -> int | None:
    """The step with the best figure, the earliest of equals; None where none has it.

    The lowest is the best of a loss, the highest of everything else.

    Example:
        >>> best_step({1: {"R@1": 0.5}, 2: {"R@1": 0.7}, 3: {"R@1": 0.7}}, "R@1")
        2
        >>> best_step({1: {"loss": 0.5}, 2: {"loss": 0.7}}, "loss")
        1
    """
    sign = -1.0 if figure.endswith("loss") else 1.0
    scores = {step: sign * figures.get(figure, math.nan) for step, figures in validated.items()}
    known = {step: score for step, score in scores.items() if not math.isnan(score)}
    return max(known, key=known.__getitem__, default=None)


@dataclass(frozen=True)
class EarlyStopping:
    """Stops a run whose best validation is too long ago.

    Attributes:
        figure: by which the best is chosen.
        patience: how many validations without a better one end the run.
    """

    figure: str
    patience: int

    def reached(self, validated: Validated) -> bool:
        """Whether the run should end.

        Example:
            >>> history = {1: {"R@1": 0.5}, 2: {"R@1": 0.4}, 3: {"R@1": 0.5}}
            >>> EarlyStopping("R@1", 2).reached(history), EarlyStopping("R@1", 3).reached(history)
            (True, False)
        """
        best = best_step(validated, self.figure)
        return best is not None and sum(step > best for step in validated) >= self.patience
