"""Where a training loop runs, as the loop sees it: restore, report, checkpoint.

``LocalContext`` is this process; ``RayContext`` (``fit.ray_training``) is a worker of Ray Train.
Both keep their checkpoints in the same ``CheckpointStorage``, so a run that was started by one
can be resumed by the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fti_training.loop.checkpoint_storage import CheckpointStorage
from fti_training.loop.events import Event


class RunContext(Protocol):
    """What the loop needs from its surroundings."""

    @property
    def leads(self) -> bool:
        """Whether this process validates, reports figures and writes the checkpoints."""
        ...

    def restore(self, load: Callable[[Path], None]) -> None:
        """Calls ``load`` with the folder of the newest checkpoint, if there is one."""
        ...

    def report(self, event: Event) -> None:
        """Hands an event to the logs and the progress bar."""
        ...

    def checkpoint(
        self, step: int, figures: dict[str, float], write: Callable[[Path], None]
    ) -> None:
        """Keeps a checkpoint of ``step``; every process of the group calls it, the first writes.

        Args:
            figures: of the validation, by which the best checkpoint is chosen.
            write: writes the checkpoint's files to a folder.

        Raises OutputUnavailable where it cannot be written.
        """
        ...


@dataclass(frozen=True)
class LocalContext:
    """A run in this process.

    Attributes:
        handle: receives each event at once.
    """

    storage: CheckpointStorage
    handle: Callable[[Event], None]
    leads: bool = True

    def restore(self, load: Callable[[Path], None]) -> None:
        self.storage.restore_newest(load)

    def report(self, event: Event) -> None:
        self.handle(event)

    def checkpoint(
        self, step: int, figures: dict[str, float], write: Callable[[Path], None]
    ) -> None:
        self.storage.write(step, figures, write)
