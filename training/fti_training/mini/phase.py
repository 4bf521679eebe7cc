"""One phase of the mini model's training, through the loop that ``fti-train fit`` uses."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from fti_training.loop.checkpoint_storage import CheckpointStorage
from fti_training.loop.context import LocalContext
from fti_training.loop.recorder import recording
from fti_training.loop.state import TrainingState
from fti_training.loop.training_loop import Figures, Losses, TrainingLoop
from fti_training.loop.update import Cosine, Update
from fti_training.mini.config import MiniConfig

GRADIENT_CLIP = 1.0


def train_phase(
    name: str,
    folder: Path,
    config: MiniConfig,
    state: TrainingState[Any],
    schedule: Cosine,
    losses: Callable[[range], Losses],
    validate: Callable[[], Figures],
    batch: int,
) -> None:
    """Trains to the end of a schedule, from the newest checkpoint in ``folder/name``.

    Args:
        batch: pictures of one step.

    Raises CheckpointError where that checkpoint belongs to a run with other settings.
    """
    update = Update(name, state.model.parameters(), state.optimizer, schedule, GRADIENT_CLIP)
    storage = CheckpointStorage.at(str(folder / name))
    with recording(name, folder / name, schedule.steps, board=False) as recorder:
        TrainingLoop(
            state=state,
            update=update,
            context=LocalContext(storage, recorder.handle),
            steps=schedule.steps,
            batch=batch,
            log_every=config.log_every,
            checkpoint_every=config.checkpoint_every,
            validate=validate,
        ).run(losses)
