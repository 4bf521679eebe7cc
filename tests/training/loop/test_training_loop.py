"""The training loop: a run that was stopped and resumed equals an undisturbed one."""

from __future__ import annotations

import copy
import math
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from torch import nn

from fti_qdrant.errors import CheckpointError
from fti_training.loop.checkpoint_storage import CheckpointStorage
from fti_training.loop.context import LocalContext
from fti_training.loop.events import Began, Event, Stepped, Validated
from fti_training.loop.state import TrainingState, moving_average
from fti_training.loop.training_loop import StepResult, TrainingLoop
from fti_training.loop.update import Cosine, Update
from fti_training.split_caption import SplitCaption
from fti_training.step import InverterStep

STEPS, EVERY = 6, 2
IDENTITY = {"seed": 7, "lr": 1e-2}


class Killed(BaseException):
    """As abrupt as a signal: nothing in the loop may catch it."""


def small_network(width: int = 8) -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, width), nn.Dropout(0.5), nn.Tanh(), nn.Linear(width, 1))


class Run:
    """A loop over a small model, its checkpoints in a folder, its events in a list."""

    def __init__(self, folder: Path, module: nn.Module | None = None, clip: float = 1.0, **changes):
        self.module = small_network() if module is None else module
        self.events: list[Event] = []
        self.started: list[int] = []
        optimizer = torch.optim.AdamW(self.module.parameters(), lr=1e-2)
        self.state = TrainingState(
            self.module,
            optimizer,
            moving_average(self.module, 0.5),
            identity=changes.pop("identity", IDENTITY),
        )
        self.storage = CheckpointStorage.at(str(folder), "recall")
        parameters = self.module.parameters()
        options = {
            "state": self.state,
            "update": Update("small", parameters, optimizer, Cosine(STEPS, 1e-2, 2), clip),
            "context": LocalContext(self.storage, self.events.append),
            "steps": STEPS,
            "batch": 16,
            "log_every": 1,
            "checkpoint_every": EVERY,
        }
        self.loop = TrainingLoop(**(options | changes))

    def train(self, killed_at: int | None = None, spoil=lambda number, loss: loss) -> Run:
        """Steps that depend on their number alone, dropout included."""

        def losses(steps: range):
            for number in steps:
                if number == killed_at:
                    raise Killed
                self.started.append(number)
                torch.manual_seed(number)
                loss = spoil(number, self.module(torch.randn(16, 4)).square().mean())
                yield StepResult(loss, lambda loss=loss: {"loss": float(loss.detach())})

        self.loop.run(losses)
        return self

    def tensors(self) -> dict[str, torch.Tensor]:
        """Weights, their average and the optimizer's state, copied."""
        tensors = dict(self.state._modules().state_dict())
        for index, values in self.state.optimizer.state_dict()["state"].items():
            tensors |= {f"{index}.{name}": value for name, value in values.items()}
        return {name: value.clone() for name, value in tensors.items()}

    def restored(self) -> Run:
        self.storage.restore_newest(self.state.restore)
        return self


def assert_same(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        assert torch.equal(value, expected[name]), name


@pytest.fixture
def undisturbed(tmp_path: Path) -> Run:
    return Run(tmp_path / "undisturbed").train()


@pytest.mark.parametrize("killed_at", [1, 2, 4, 5])
def test_a_killed_run_resumes_to_the_same_weights(
    undisturbed: Run, tmp_path: Path, killed_at: int
) -> None:
    folder = tmp_path / "killed"
    with pytest.raises(Killed):
        Run(folder).train(killed_at)
    resumed = Run(folder)
    if resumed.storage.newest() is not None:  # then the weights of the new process do not matter
        nn.init.zeros_(resumed.module[0].weight)
    resumed.train()
    assert resumed.started == list(range(killed_at - killed_at % EVERY, STEPS))
    assert_same(resumed.tensors(), undisturbed.tensors())
    assert resumed.events[0] == Began(killed_at - killed_at % EVERY)


def test_a_killed_inverter_training_resumes_to_the_same_weights(
    tiny_backbone, tiny_composer, pictures, tmp_path: Path
) -> None:
    """The real step, with dropout, in the loop."""
    features = tiny_backbone.image_features(pictures[:3])
    captions = [SplitCaption("dog", f"{number} tails") for number in range(3)]

    def run(folder: Path, killed_at: int | None = None) -> dict[str, torch.Tensor]:
        inverter = copy.deepcopy(tiny_composer.inverter).requires_grad_(True).train()
        step = InverterStep(tiny_backbone, inverter)

        def losses(steps: range):
            for number in steps:
                if number == killed_at:
                    raise Killed
                torch.manual_seed(number)
                loss = step(features, captions)
                yield StepResult(loss.total, loss.figures)

        made = Run(folder, inverter)
        made.loop.run(losses)
        return made.tensors()

    expected = run(tmp_path / "undisturbed")
    with pytest.raises(Killed):
        run(tmp_path / "killed", killed_at=5)
    assert_same(run(tmp_path / "killed"), expected)


def test_a_finished_run_does_nothing_more(undisturbed: Run) -> None:
    again = Run(Path(undisturbed.storage.path)).train(killed_at=STEPS)
    assert again.started == []
    assert_same(again.tensors(), undisturbed.tensors())


def test_a_checkpoint_of_other_settings_is_refused(undisturbed: Run) -> None:
    other = Run(Path(undisturbed.storage.path), identity={"seed": 8, "lr": 1e-2})
    with pytest.raises(CheckpointError, match=r"seed was 7.*another --out"):
        other.train()


def test_a_checkpoint_of_another_architecture_is_refused(undisturbed: Run) -> None:
    other = Run(Path(undisturbed.storage.path), small_network(width=9))
    with pytest.raises(CheckpointError, match="cannot be used"):
        other.train()


def infinite_gradient(number: int, loss: torch.Tensor) -> torch.Tensor:
    """A finite loss with a gradient that is not: the root at zero."""
    return (loss - loss.detach()).abs().sqrt() if number == 3 else loss


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda number, loss: loss * float("nan") if number == 3 else loss, "loss is nan"),
        (lambda number, loss: loss / 0 if number == 3 else loss, "loss is inf"),
        (infinite_gradient, "gradient's norm is nan"),
    ],
    ids=["nan", "inf", "gradient"],
)
def test_a_spoilt_step_leaves_the_last_checkpoint(tmp_path: Path, spoil, message: str) -> None:
    """Step 3 is followed by a checkpoint, which must not be written."""
    spoilt = Run(tmp_path / "spoilt")
    with pytest.raises(CheckpointError, match=f"{message} at step 3.*last checkpoint is kept"):
        spoilt.train(spoil=spoil)
    assert all(value.isfinite().all() for value in spoilt.module.parameters())
    again = Run(tmp_path / "spoilt").restored()
    assert again.state.step == 2
    expected = Run(tmp_path / "short")
    with pytest.raises(Killed):
        expected.train(killed_at=2)
    assert_same(again.tensors(), expected.tensors())


def test_gradients_are_clipped(tmp_path: Path) -> None:
    run = Run(tmp_path, clip=1e-3).train(spoil=lambda number, loss: 1000 * loss)
    norm = torch.stack([parameter.grad.norm() for parameter in run.module.parameters()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_steps_are_logged_and_checkpoints_validated(tmp_path: Path) -> None:
    """The newest two checkpoints stay, and the best one."""
    recalls = iter([0.75, 0.25, 0.5])
    cleared: list[int] = []
    run = Run(
        tmp_path,
        log_every=4,
        validate=lambda: {"recall": next(recalls)},
        before_checkpoint=lambda: cleared.append(1),
    ).train()
    assert [one.step for one in run.events if isinstance(one, Stepped)] == [4, 6]
    logged = [one.figures for one in run.events if isinstance(one, Stepped)]
    assert all(figures.keys() == {"loss", "images_per_s", "lr"} for figures in logged)
    validated = [(one.step, one.figures["recall"]) for one in run.events if type(one) is Validated]
    assert validated == [(2, 0.75), (4, 0.25), (6, 0.5)]
    assert len(cleared) == 3
    assert [one.step for one in run.storage.stored()] == [2, 4, 6]
    best = run.storage.best()
    assert best is not None
    assert best.step == 2


def test_the_average_is_what_is_kept(tmp_path: Path) -> None:
    run = Run(tmp_path).train()
    assert run.state.kept is run.state.average.module
    assert not torch.equal(run.state.kept[0].weight, run.module[0].weight)


def test_the_schedule_warms_up_and_falls_to_zero() -> None:
    schedule = Cosine(steps=100, lr=2.0, warmup=10)
    rates = [schedule.at(step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in pairwise(rates[10:]))
    assert math.isfinite(sum(rates))
