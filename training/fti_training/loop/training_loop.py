"""A resumable training loop in one process: progress, log, checkpoints."""

from __future__ import annotations

import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fti_qdrant.cli.progress import step_progress
from fti_qdrant.errors import CheckpointError
from fti_training.loop import checkpoint_file as checkpoint
from fti_training.loop.update import Cosine, Update

Parts = dict[str, float]
Step = Callable[[int], tuple[Tensor, Parts]]


@dataclass
class Loop:
    """Runs ``step`` from wherever the checkpoint left off.

    A step is a function of its number alone (it seeds itself), so a run that was killed and
    resumed ends with the weights of an undisturbed one.

    Attributes:
        name: of the phase, for the log and the checkpoint's file name.
        folder: where ``{name}.safetensors`` and ``{name}.csv`` are kept.
        identity: facts that a checkpoint must share with this run, such as the config.
        probe: called at each checkpoint; its figures go into the log.
        after: called after each update.
    """

    name: str
    folder: Path
    module: nn.Module
    optimizer: torch.optim.Optimizer
    schedule: Cosine
    every: int
    identity: dict[str, object]
    probe: Callable[[], Parts] = dict
    after: Callable[[], None] = lambda: None
    grad_clip: float = 1.0

    @property
    def checkpoint_path(self) -> Path:
        return self.folder / f"{self.name}.safetensors"

    def resume(self) -> int:
        """Restores the checkpoint if there is one; the number of steps already done.

        Raises CheckpointError where it belongs to a run with another config.
        """
        if not self.checkpoint_path.exists():
            return 0
        facts = checkpoint.load(self.checkpoint_path, self.module, self.optimizer)
        then = facts["identity"]
        changed = [name for name, value in self.identity.items() if then.get(name) != value]
        if changed:
            told = ", ".join(f"{name} was {then.get(name)}" for name in changed)
            raise CheckpointError(
                f"{self.checkpoint_path} belongs to a run with other settings ({told}); "
                "train into another folder, or delete it to start anew"
            )
        return int(facts["step"])

    def run(self, step: Step) -> None:
        """Trains to the end, saving every ``every`` steps and after the last."""
        done = self.resume()
        update = Update(
            self.name, self.module.parameters(), self.optimizer, self.schedule, self.grad_clip
        )
        with step_progress() as progress:
            task = progress.add_task(self.name, total=self.schedule.steps, completed=done)
            began = time.monotonic()
            for number in range(done, self.schedule.steps):
                loss, parts = step(number)
                update(loss, number)
                self.after()
                progress.update(task, advance=1, description=f"{self.name} {_brief(parts)}")
                last = number + 1 == self.schedule.steps
                if (number + 1) % self.every == 0 or last:
                    seconds = (time.monotonic() - began) / (number + 1 - done)
                    self._save(number + 1)
                    self._log({"step": number + 1, "s_per_step": seconds, **parts, **self.probe()})

    def _save(self, step: int) -> None:
        facts = {"step": step, "identity": self.identity}
        checkpoint.save(self.checkpoint_path, self.module, self.optimizer, facts)

    def _log(self, row: Parts) -> None:
        path = self.folder / f"{self.name}.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.DictWriter(file, row.keys())
            if fresh:
                writer.writeheader()
            writer.writerow({key: f"{value:.6g}" for key, value in row.items()})


def _brief(parts: Parts) -> str:
    return " ".join(f"{name} {value:.3f}" for name, value in parts.items())
