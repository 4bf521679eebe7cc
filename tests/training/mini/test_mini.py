"""``fti-train mini`` as a command: makes a model, resumes after a kill, tells what is wrong."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fti_qdrant.composers.composer import Composer

QUICK = {
    "backbone_steps": 6,
    "finish_steps": 2,
    "inverter_steps": 4,
    "pictures": 700,
    "batch": 48,
    "checkpoint_every": 2,
    "width": 64,
    "visual_layers": 1,
    "text_layers": 1,
}
WEIGHTS = ("open_clip_model.safetensors", "inverter/model.safetensors")


def command(out: Path, **changes: object) -> list[str]:
    settings = [f"--set={name}={value}" for name, value in {**QUICK, **changes}.items()]
    return [sys.executable, "-m", "fti_training.cli", "mini", "--out", str(out), *settings]


def train(out: Path, **changes: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command(out, **changes), capture_output=True, text=True, timeout=300)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("mini")
    done = train(out)
    assert done.returncode == 0, done.stderr
    for word in ("text to image", "known wordings", "unseen wordings", "true name", "slerp"):
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


def test_training_goes_on_after_a_checkpoint_was_measured(trained: Path) -> None:
    with (trained / "checkpoints" / "backbone.csv").open() as log:
        losses = [line.split(",")[2] for line in log.read().splitlines()[1:]]
    assert len(losses) == 3
    weights = load_file(trained / WEIGHTS[0])
    stopped = load_file(trained / "checkpoints" / "backbone.safetensors")
    moments = [value for name, value in stopped.items() if name.endswith(".step")]
    assert all(int(step) == QUICK["backbone_steps"] for step in moments)
    assert len(moments) == sum(name.startswith("module.model.") for name in stopped)
    assert len(weights) == len(moments)


def test_a_killed_run_resumes_to_the_weights_of_an_undisturbed_one(
    trained: Path, tmp_path: Path
) -> None:
    process = subprocess.Popen(
        command(tmp_path), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    checkpoint = tmp_path / "checkpoints" / "backbone.safetensors"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "figures.json").exists()
    done = train(tmp_path)
    assert done.returncode == 0, done.stderr
    for name in WEIGHTS:
        resumed, undisturbed = load_file(tmp_path / name), load_file(trained / name)
        for key, value in undisturbed.items():
            assert torch.equal(resumed[key], value), key


def test_other_settings_do_not_continue_a_run(trained: Path) -> None:
    done = train(trained, batch=32)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("Error: ")
    assert "batch was 48" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ("steps=3", "steps"),
        ("backbone_steps=many", "backbone_steps='many'"),
        ("backbone_steps", "NAME=VALUE"),
        ("backbone_lr=-1", "backbone_lr"),
    ],
)
def test_a_bad_setting_is_one_line(tmp_path: Path, change: str, told: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "fti_training.cli", "mini", f"--out={tmp_path}", f"--set={change}"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert told in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_print_config_lists_the_settings(tmp_path: Path) -> None:
    done = subprocess.run([*command(tmp_path), "--print-config"], capture_output=True, text=True)
    assert json.loads(done.stdout)["batch"] == QUICK["batch"]
    assert not list(tmp_path.iterdir())
