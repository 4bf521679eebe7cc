"""``fti-train mini`` as a command: makes a model, resumes after a kill, tells what is wrong."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from click.testing import CliRunner, Result
from safetensors.torch import load_file

from fti_qdrant.composers.composer import Composer
from fti_training.cli.main import main
from fti_training.loop.records import read_rows
from fti_training.mini.pictures import draw_artworks
from tests.commands import start_command

QUICK = {
    "backbone_steps": 6,
    "finish_steps": 2,
    "wordings_steps": 2,
    "inverter_steps": 4,
    "inverter_batch": 48,
    "inverter_average": 0.5,
    "inverter_jitter": True,
    "inverter_triplet_weight": 0.5,
    "pictures": 700,
    "batch": 48,
    "checkpoint_every": 2,
    "log_every": 2,
    "width": 64,
    "visual_layers": 1,
    "text_layers": 1,
}
WEIGHTS = ("open_clip_model.safetensors", "inverter/model.safetensors")


def command(out: Path, **changes: object) -> list[str]:
    settings = [f"--set={name}={value}" for name, value in {**QUICK, **changes}.items()]
    return ["mini", "--out", str(out), *settings]


def train(out: Path, **changes: object) -> Result:
    return CliRunner().invoke(main, command(out, **changes))


@pytest.fixture(scope="module", autouse=True)
def _drawn_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fti_training.mini.train.draw_artworks", cache(draw_artworks))
        yield


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mini")
    done = train(out)
    assert done.exit_code == 0, done.output
    for word in ("text to image", "unseen wordings", "unused paraphrases", "true name", "slerp"):
        assert word in done.stdout
    return out


def test_it_makes_a_model_that_loads_by_name(trained: Path) -> None:
    composer = Composer.load(f"local-dir:{trained}", str(trained / "inverter"))
    assert composer.backbone.width == 64
    assert composer.inverter is not None


def test_the_card_tells_data_command_figures_and_limits(trained: Path) -> None:
    card = (trained / "README.md").read_text(encoding="utf-8")
    for part in ("## Data", "## Command", "fti-train mini", "## Figures", "## Limits", "CC-BY"):
        assert part in card
    figures = json.loads((trained / "figures.json").read_text())
    for row in figures["known wordings"].values():
        assert f"{row['R@1']:.3f}" in card


def test_training_continues_after_a_checkpoint_was_validated(trained: Path) -> None:
    phase = trained / "training" / "backbone"
    assert [row["step"] for row in read_rows(phase / "log.csv")] == [2, 4, 6]
    assert [row["step"] for row in read_rows(phase / "validation.csv")] == [2, 4, 6]
    weights = load_file(trained / WEIGHTS[0])
    newest = phase / "checkpoints" / f"step-{QUICK['backbone_steps']:08}"
    state = load_file(newest / "state.safetensors")
    moments = [value for name, value in state.items() if name.endswith(".step")]
    assert all(int(step) == QUICK["backbone_steps"] for step in moments)
    assert len(moments) == sum(name.startswith("module.model.") for name in state)
    assert len(weights) == len(moments)


def test_a_killed_run_resumes_to_the_weights_of_an_undisturbed_one(
    trained: Path, tmp_path: Path
) -> None:
    """Killed after its first checkpoint."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = start_command("fti_training.cli", *command(tmp_path), environment=environment)
    checkpoint = tmp_path / "training/backbone/checkpoints/step-00000002"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (tmp_path / "figures.json").exists()
    done = train(tmp_path)
    assert done.exit_code == 0, done.output
    for name in WEIGHTS:
        resumed, undisturbed = load_file(tmp_path / name), load_file(trained / name)
        for key, value in undisturbed.items():
            assert torch.equal(resumed[key], value), key


def test_from_a_start_the_visual_tower_is_kept_and_the_text_tower_learns(
    trained: Path, tmp_path: Path
) -> None:
    arguments = command(tmp_path, wordings_lr=0.01, inverter_steps=2)
    done = CliRunner().invoke(main, [*arguments, "--start", str(trained)])
    assert done.exit_code == 0, done.output
    assert sorted(one.name for one in (tmp_path / "training").iterdir()) == ["inverter", "wordings"]
    before, after = load_file(trained / WEIGHTS[0]), load_file(tmp_path / WEIGHTS[0])
    same = {name for name, value in before.items() if torch.equal(value, after[name])}
    assert same >= {name for name in before if name.startswith("visual.")}
    assert not same & {"token_embedding.weight", "text_projection"}
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    [line] = [line for line in card.splitlines() if line.startswith("fti-train mini")]
    assert f"--start {trained} --set " in line
    assert "--set wordings_lr=0.01" in line
    assert "--set seed" not in line  # as by default
    started = Composer.load(f"local-dir:{trained}").backbone.fingerprint
    assert f"weights `{started.weights}`" in card


def test_a_start_of_other_sizes_is_one_line(trained: Path, tmp_path: Path) -> None:
    arguments = command(tmp_path / "new", width=128)
    done = CliRunner().invoke(main, [*arguments, "--start", str(trained)])
    assert done.exit_code == 2
    assert "other sizes" in done.stderr
    empty = CliRunner().invoke(main, [*arguments, "--start", str(tmp_path)])
    assert empty.exit_code == 2
    assert "no backbone" in empty.stderr
    assert len(empty.stderr.strip().splitlines()) == 1


def test_other_settings_do_not_continue_a_run(trained: Path) -> None:
    done = train(trained, batch=32)
    assert done.exit_code == 2
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "batch was 48" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("steps=3", "steps"),
        ("backbone_steps=many", "backbone_steps='many'"),
        ("backbone_steps", "NAME=VALUE"),
        ("backbone_lr=-1", "backbone_lr"),
    ],
)
def test_a_bad_setting_is_one_line(tmp_path: Path, change: str, message: str) -> None:
    done = CliRunner().invoke(main, ["mini", f"--out={tmp_path}", f"--set={change}"])
    assert done.exit_code == 2
    assert message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_print_config_lists_the_settings(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, [*command(tmp_path), "--print-config"])
    assert json.loads(done.stdout)["batch"] == QUICK["batch"]
    assert not list(tmp_path.iterdir())
