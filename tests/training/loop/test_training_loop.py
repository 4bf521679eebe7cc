"""A run that was killed and resumed is an undisturbed one; damaged checkpoints are refused."""

from __future__ import annotations

import copy
import csv
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from fti_qdrant.errors import CheckpointError
from fti_training.loop import checkpoint_file as checkpoint
from fti_training.loop.training_loop import Loop
from fti_training.loop.update import Cosine
from fti_training.step import InverterStep, SplitCaption

STEPS, EVERY = 6, 2


class Killed(BaseException):
    """As abrupt as a signal: nothing in the loop may catch it."""


def small_network(width: int = 8) -> nn.Module:
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, width), nn.Dropout(0.5), nn.Tanh(), nn.Linear(width, 1))


def loop_of(module: nn.Module, folder: Path, **changes) -> Loop:
    options = {
        "name": "small",
        "folder": folder,
        "module": module,
        "optimizer": torch.optim.AdamW(module.parameters(), lr=1e-2),
        "schedule": Cosine(STEPS, 1e-2, warmup=2),
        "every": EVERY,
        "identity": {"seed": 7, "lr": 1e-2},
    }
    return Loop(**(options | changes))


def step_of(module: nn.Module, killed_at: int | None = None, spoil=None):
    """A step that depends on its number alone, dropout included."""

    def step(number: int):
        if number == killed_at:
            raise Killed
        torch.manual_seed(number)
        loss = module(torch.randn(16, 4)).square().mean()
        if spoil:
            loss = spoil(number, loss)
        return loss, {"loss": float(loss.detach())}

    return step


def state(loop: Loop) -> dict[str, torch.Tensor]:
    """Weights and optimizer state, copied."""
    tensors = dict(loop.module.state_dict())
    for index, values in loop.optimizer.state_dict()["state"].items():
        tensors |= {f"{index}.{name}": value for name, value in values.items()}
    return {name: value.clone() for name, value in tensors.items()}


def assert_same(ours: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert ours.keys() == expected.keys()
    for name, value in ours.items():
        assert torch.equal(value, expected[name]), name


@pytest.fixture
def undisturbed(tmp_path) -> Loop:
    module = small_network()
    loop = loop_of(module, tmp_path / "undisturbed")
    loop.run(step_of(module))
    return loop


@pytest.mark.parametrize("killed_at", [1, 2, 4, 5])
def test_a_killed_run_resumes_to_the_same_weights(undisturbed, tmp_path, killed_at):
    folder = tmp_path / "killed"
    module = small_network()
    with pytest.raises(Killed):
        loop_of(module, folder).run(step_of(module, killed_at))
    resumed = loop_of(small_network(), folder)
    if resumed.checkpoint_path.exists():  # then the weights of the fresh process do not matter
        nn.init.zeros_(resumed.module[0].weight)
    inner, started = step_of(resumed.module), []

    def step(number: int):
        started.append(number)
        return inner(number)

    resumed.run(step)
    assert started == list(range(killed_at - killed_at % EVERY, STEPS))
    assert_same(state(resumed), state(undisturbed))
    rows = list(csv.DictReader((folder / "small.csv").open()))
    assert [row["step"] for row in rows] == ["2", "4", "6"]


def test_a_killed_inverter_training_resumes_to_the_same_weights(
    tiny_backbone, tiny_composer, pictures, tmp_path
):
    """The real step, with dropout, under the loop."""
    features = tiny_backbone.image_features(pictures[:3])
    captions = [SplitCaption("dog", f"{number} tails") for number in range(3)]

    def run(folder: Path, killed_at: int | None = None) -> dict[str, torch.Tensor]:
        inverter = copy.deepcopy(tiny_composer.inverter).requires_grad_(True).train()
        losses = InverterStep(tiny_backbone, inverter)

        def step(number: int):
            if number == killed_at:
                raise Killed
            torch.manual_seed(number)
            loss = losses(features, captions)
            return loss.total, loss.log()

        loop = loop_of(inverter, folder)
        loop.run(step)
        return state(loop)

    expected = run(tmp_path / "undisturbed")
    with pytest.raises(Killed):
        run(tmp_path / "killed", killed_at=5)
    assert_same(run(tmp_path / "killed"), expected)


def test_a_finished_run_does_nothing_more(undisturbed):
    before = state(undisturbed)
    undisturbed.run(step_of(undisturbed.module, killed_at=STEPS))
    assert_same(state(undisturbed), before)


def test_a_checkpoint_of_other_settings_is_refused(undisturbed):
    other = loop_of(small_network(), undisturbed.folder, identity={"seed": 8, "lr": 1e-2})
    with pytest.raises(CheckpointError, match=r"seed was 7.*another folder"):
        other.run(step_of(other.module))


def test_a_checkpoint_of_another_architecture_is_refused(undisturbed):
    other = loop_of(small_network(width=9), undisturbed.folder)
    with pytest.raises(CheckpointError, match="delete it to start anew"):
        other.resume()


DAMAGES = {
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:-50]),
    "cut to its header": lambda path: path.write_bytes(path.read_bytes()[:20]),
    "empty": lambda path: path.write_bytes(b""),
    "not safetensors": lambda path: path.write_text("step 6"),
    "without facts": lambda path: save_file({"a": torch.zeros(1)}, path),
    "facts of something else": lambda path: save_file({}, path, metadata={"facts": "{"}),
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES.keys())
def test_a_damaged_checkpoint_is_refused(undisturbed, damage):
    damage(undisturbed.checkpoint_path)
    fresh = loop_of(small_network(), undisturbed.folder)
    before = state(fresh)
    with pytest.raises(CheckpointError, match=r"small\.safetensors.*delete it to start anew"):
        fresh.run(step_of(fresh.module))
    assert_same(state(fresh), before)


def test_an_interrupted_write_leaves_the_last_checkpoint(undisturbed, monkeypatch):
    before = undisturbed.checkpoint_path.read_bytes()

    def torn(tensors, path, metadata):
        Path(path).write_bytes(before[:100])
        raise Killed

    monkeypatch.setattr(checkpoint, "save_file", torn)
    with pytest.raises(Killed):
        undisturbed._save(STEPS)
    assert undisturbed.checkpoint_path.read_bytes() == before
    assert loop_of(small_network(), undisturbed.folder).resume() == STEPS


def infinite_gradient(number: int, loss: torch.Tensor) -> torch.Tensor:
    """A finite loss with a gradient that is not: the root at zero."""
    return (loss - loss.detach()).abs().sqrt() if number == 3 else loss


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda number, loss: loss * float("nan") if number == 3 else loss, "loss is nan"),
        (lambda number, loss: loss / 0 if number == 3 else loss, "loss is inf"),
        (infinite_gradient, "gradient's norm is nan"),
    ],
    ids=["nan", "inf", "gradient"],
)
def test_a_spoilt_step_leaves_the_last_checkpoint(tmp_path, spoil, told):
    """Step 3 is followed by a checkpoint, which must not be written."""
    module = small_network()
    loop = loop_of(module, tmp_path)
    with pytest.raises(CheckpointError, match=f"{told} at step 3.*last checkpoint is untouched"):
        loop.run(step_of(module, spoil=spoil))
    assert all(value.isfinite().all() for value in module.parameters())
    again = loop_of(small_network(), tmp_path)
    assert again.resume() == 2
    expected = loop_of(small_network(), tmp_path / "short")
    with pytest.raises(Killed):
        expected.run(step_of(expected.module, killed_at=2))
    assert_same(state(again), state(expected))


def test_gradients_are_clipped(tmp_path):
    module = small_network()
    loop = loop_of(module, tmp_path, grad_clip=1e-3)
    loop.run(step_of(module, spoil=lambda number, loss: 1000 * loss))
    norm = torch.stack([parameter.grad.norm() for parameter in module.parameters()]).norm()
    assert float(norm) == pytest.approx(1e-3, rel=1e-3)


def test_the_log_has_the_parts_and_the_probe(tmp_path):
    module = small_network()
    loop = loop_of(module, tmp_path, probe=lambda: {"recall": 0.25})
    loop.run(step_of(module))
    rows = list(csv.DictReader((tmp_path / "small.csv").open()))
    assert list(rows[0]) == ["step", "s_per_step", "loss", "recall"]
    assert [row["recall"] for row in rows] == ["0.25"] * 3


def test_facts_come_back_and_the_file_is_safetensors(tmp_path):
    module = small_network()
    optimizer = torch.optim.AdamW(module.parameters())
    path = tmp_path / "new" / "a.safetensors"
    checkpoint.save(path, module, optimizer, {"step": 3, "identity": {"name": "一"}})
    assert checkpoint.load(path, module, optimizer) == {"step": 3, "identity": {"name": "一"}}
    assert [file.name for file in path.parent.iterdir()] == ["a.safetensors"]


def test_the_schedule_warms_up_and_falls_to_zero():
    schedule = Cosine(steps=100, lr=2.0, warmup=10)
    rates = [schedule.at(step) for step in range(101)]
    assert rates[:10] == pytest.approx([0.2 * (step + 1) for step in range(10)])
    assert rates[10] == 2.0
    assert rates[55] == pytest.approx(1.0)
    assert rates[100] == pytest.approx(0.0)
    assert all(a >= b for a, b in pairwise(rates[10:]))
