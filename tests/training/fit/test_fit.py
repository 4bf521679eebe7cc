"""``fti-train fit`` as a command, on drawings: what it leaves, kills, resume, workers."""

from __future__ import annotations

import os
import shutil
import signal
import time
from functools import partial
from pathlib import Path

import pytest
import torch

from fti_qdrant.composers.composer import Composer
from fti_qdrant.model import cpu
from fti_qdrant.model import precision as model_precision
from fti_training.loop.records import Records
from fti_training.mini.pictures import draw_all
from tests.training.fit.runs import (
    fit_line,
    fitted,
    rows_of,
    same,
    start,
    train,
    training_workers,
    weights,
    write_samples,
    write_triplets,
)

STEPS = list(range(1, 17))
LOGGED = ("total", "contrastive", "orthogonality", "tri_wise", "mean_count")
UNREADABLE = 3


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("drawings"), 40)


@pytest.fixture(scope="module")
def undisturbed(captions: Path, tiny_model: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of 16 steps in this process."""
    out = tmp_path_factory.mktemp("fit") / "undisturbed"
    done = fitted("--captions", captions, "--model", tiny_model, "--out", out)
    assert f"Composer.load('{tiny_model}'" in done.output
    return out


def wait_for_step(out: Path, step: int) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        rows = rows_of(out / "log.csv")
        if rows and rows[-1]["step"] >= step:
            return
        time.sleep(0.01)
    raise AssertionError(f"step {step} was not reached: {rows_of(out / 'log.csv')[-1:]}")


def test_it_learns_and_leaves_an_inverter_that_loads(undisturbed: Path, tiny_model: str) -> None:
    rows = rows_of(undisturbed / "log.csv")
    assert [row["step"] for row in rows] == STEPS
    assert rows[-1]["total"] < 0.8 * rows[0]["total"]
    for row in rows:
        whole = row["contrastive"] + row["orthogonality"] + 1.4 * row["tri_wise"]
        assert row["total"] == pytest.approx(whole, rel=1e-5)
        assert 1 <= row["mean_count"] <= 12
    assert [row["lr"] for row in rows[:4]] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])
    assert Composer.load(tiny_model, str(undisturbed / "inverter")).inverter is not None
    assert list((undisturbed / "tensorboard").glob("events*"))
    kept = sorted(one.name for one in (undisturbed / "checkpoints").iterdir())
    assert kept == ["step-00000012", "step-00000016"]


def test_a_finished_run_is_complete(undisturbed: Path, captions: Path, tiny_model: str) -> None:
    line = fit_line("--captions", captions, "--model", tiny_model, "--out", undisturbed)
    again = train(*line, "--resume").output
    assert "the run was already complete: 16 steps; --steps extends it" in again


def test_a_finished_run_is_extended_to_the_weights_of_a_longer_one(
    captions: Path, undisturbed: Path, tiny_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "extended"
    arguments = ("--captions", captions, "--model", tiny_model, "--out", out)
    assert "8 steps, loss" in fitted(*arguments, steps=8).output
    extended = fitted(*arguments, "--resume", steps=16)
    assert "16 steps, loss" in extended.output
    assert same(out, undisturbed)
    assert [row["step"] for row in rows_of(out / "log.csv")] == STEPS
    for length in ({"steps": 9}, {"epochs": 4, "steps": "null"}):
        shorter = train(*fit_line(*arguments, **length), "--resume")
        assert shorter.exit_code == 2
        assert "holds a run of 16 steps already" in " ".join(shorter.output.split())
    assert same(out, undisturbed)
    longer = fitted(*arguments, "--resume", epochs=9, steps="null")
    assert "18 steps, loss" in longer.output


@pytest.fixture
def _bf16(monkeypatch: pytest.MonkeyPatch) -> None:
    """A CPU that multiplies bf16, and a model that is large and exact enough for it."""
    monkeypatch.setattr(cpu, "has_bf16", lambda: True)
    monkeypatch.setattr(model_precision, "MIN_PARAMETERS", 0)
    monkeypatch.setattr(model_precision, "MIN_COSINE", 0.99)


@pytest.mark.usefixtures("_bf16")
def test_bf16_where_the_cores_multiply_it_resumes_exactly_and_learns_alike(
    captions: Path, undisturbed: Path, tiny_model: str, tmp_path: Path
) -> None:
    arguments = ("--captions", captions, "--model", tiny_model)
    whole, resumed = tmp_path / "whole", tmp_path / "resumed"
    fitted(*arguments, "--out", whole, steps=8)
    assert {one.dtype for one in weights(whole).values()} == {torch.float32}
    assert not same(whole, undisturbed)
    rough, exact = rows_of(whole / "log.csv"), rows_of(undisturbed / "log.csv")
    for row, other in zip(rough, exact[:8], strict=True):
        assert row["total"] == pytest.approx(other["total"], rel=0.05)
    fitted(*arguments, "--out", resumed, steps=4)
    fitted(*arguments, "--out", resumed, "--resume", steps=8)
    assert same(resumed, whole)


@pytest.mark.usefixtures("_bf16")
def test_fp32_on_request_is_what_other_cores_compute(
    captions: Path, undisturbed: Path, tiny_model: str, tmp_path: Path
) -> None:
    arguments = ("--captions", captions, "--model", tiny_model, "--out", tmp_path)
    fitted(*arguments, precision="fp32", steps=4)
    exact, expected = rows_of(tmp_path / "log.csv"), rows_of(undisturbed / "log.csv")
    for name in LOGGED:
        assert [row[name] for row in exact] == [row[name] for row in expected[:4]]


def test_more_steps_than_epochs_are_named(
    captions: Path, tiny_model: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    fitted("--captions", captions, "--model", tiny_model, "--out", tmp_path, epochs=1, steps=900)
    assert "ends after 2 steps: these are its 1 epochs; raise --epochs for 900" in caplog.text


def test_a_cosine_run_keeps_its_length(captions: Path, tiny_model: str, tmp_path: Path) -> None:
    out = tmp_path / "cosine"
    arguments = ("--captions", captions, "--model", tiny_model, "--out", out)
    fitted(*arguments, steps=2, schedule="cosine")
    refused = train(*fit_line(*arguments, steps=4, schedule="cosine"), "--resume")
    assert refused.exit_code == 2
    message = " ".join(refused.output.split())
    assert "(steps was 2)" in message
    assert "A resumed run may change validate_on, checkpoint_every" in message
    assert "its length only with schedule=decay" in message


def test_a_killed_run_is_resumed_to_the_weights_of_an_undisturbed_one(
    captions: Path, undisturbed: Path, tiny_model: str, tmp_path: Path
) -> None:
    """By SIGKILL, and then by Ctrl-C."""
    out = tmp_path / "resumed"
    line = fit_line("--captions", captions, "--model", tiny_model, "--out", out)
    line += ["--storage", f"file://{tmp_path}/store"]
    running = start(line)
    wait_for_step(out, 5)
    running.kill()
    running.wait()
    refused = train(*line)
    assert refused.exit_code == 2
    assert "pass --resume" in refused.output
    other = train(*line, "--resume", "--set=lr=1")
    assert other.exit_code == 2
    assert "lr was 0.001" in other.output
    interrupted = start([*line, "--resume"])
    wait_for_step(out, 9)
    interrupted.send_signal(signal.SIGINT)
    _, errors = interrupted.communicate(timeout=60)
    assert interrupted.returncode == 130
    assert errors.splitlines()[-1].startswith("stopped; the newest checkpoint is kept")
    assert "Traceback" not in errors
    done = train(*line, "--resume")
    assert done.exit_code == 0, done.output
    assert same(out, undisturbed)
    assert [row["step"] for row in rows_of(out / "log.csv")] == STEPS


def test_workers_have_the_loss_curve_of_one_process_and_survive_a_kill(
    captions: Path, tiny_model: str, ray_cluster: dict[str, str], tmp_path: Path
) -> None:
    """Begun in a process, continued by two workers, of which one is killed, ended in a process.

    The workers read the pictures of composed queries, and stored features of captioned ones; those
    that read both are in the soak.

    Without dropout, whose masks each worker draws for itself. Sums in another order differ in
    their last digits, and a high learning rate makes more of that with each step; gradients are
    compared in ``test_distributed.py``.
    """
    settings = {"dropout": 0, "lr": 2e-4, "checkpoint_every": 2, "triplet_batch": 8}
    whole, out = tmp_path / "whole", tmp_path / "workers"
    pictures = sorted(captions.parent.glob("*.png"))
    triplets = write_triplets(captions.parent / "triplets.csv", pictures[:21])
    model, cache = ("--model", tiny_model), tmp_path / "cache"
    assert train("cache", captions, "--out", cache, *model).exit_code == 0
    arguments = ("--cache", cache, "--triplets", triplets, *model)
    fitted(*arguments, "--out", whole, **settings)
    fitted(*arguments, "--out", out, **settings)
    keep_until(out, 2)
    running = start(
        [*fit_line(*arguments, "--out", out, workers=2, **settings), "--resume"], ray_cluster
    )
    wait_for_step(out, 5)
    workers = training_workers(ray_cluster["RAY_AUTH_TOKEN"])
    assert workers
    os.kill(workers[0], signal.SIGKILL)
    output, errors = running.communicate(timeout=400)
    assert running.returncode == 0, errors
    assert "16 steps" in output
    assert not (out / "ray").exists()
    assert_same_curve(out, whole)
    keep_until(out, 14)
    resumed = fitted(*arguments, "--out", out, "--resume", **settings)
    assert "16 steps" in resumed.output
    assert_same_curve(out, whole)


@pytest.mark.soak
def test_a_killed_driver_leaves_a_run_that_goes_on(
    captions: Path, tiny_model: str, ray_cluster: dict[str, str], tmp_path: Path
) -> None:
    """Ray ends the workers of a driver that is gone; the checkpoints are whole."""
    settings = {"dropout": 0, "lr": 2e-4, "checkpoint_every": 2, "triplet_batch": 8}
    whole, out = tmp_path / "whole", tmp_path / "workers"
    pictures = sorted(captions.parent.glob("*.png"))
    triplets = write_triplets(captions.parent / "triplets.csv", pictures[:21])
    arguments = ("--captions", captions, "--triplets", triplets, "--model", tiny_model)
    fitted(*arguments, "--out", whole, **settings)
    line = fit_line(*arguments, "--out", out, workers=2, **settings)
    running = start(line, ray_cluster)
    wait_for_step(out, 5)
    running.kill()
    running.wait()
    until = time.monotonic() + 60
    while training_workers(ray_cluster["RAY_AUTH_TOKEN"]) and time.monotonic() < until:
        time.sleep(0.2)
    assert not training_workers(ray_cluster["RAY_AUTH_TOKEN"])
    again = start([*line, "--resume"], ray_cluster)
    output, errors = again.communicate(timeout=400)
    assert again.returncode == 0, errors
    assert "16 steps" in output
    assert not (out / "ray").exists()
    assert_same_curve(out, whole)


def keep_until(out: Path, step: int) -> None:
    """As if the run had been killed after the checkpoint of a step."""
    for folder in (out / "checkpoints").iterdir():
        if int(folder.name.removeprefix("step-")) > step:
            shutil.rmtree(folder)
    Records(out, board=False).begin(step)


def assert_same_curve(one: Path, other: Path) -> None:
    ours, theirs = rows_of(one / "log.csv"), rows_of(other / "log.csv")
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for mine, expected in zip(ours, theirs):
        for name in mine.keys() & {*LOGGED, "triplet"}:
            assert mine[name] == pytest.approx(expected[name], abs=1e-4), (name, mine["step"])


def test_a_log_that_cannot_be_written_ends_the_run(
    captions: Path, tiny_model: str, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    (out / "log.csv").mkdir(parents=True)
    line = fit_line("--captions", captions, "--model", tiny_model, "--out", out)
    done = train(*line)
    assert done.exit_code == 1
    assert f"the log in '{out}' cannot be written" in done.output
    (tmp_path / "file").write_text("")
    elsewhere = ["--storage", tmp_path / "store", "--out", tmp_path / "file" / "out"]
    done = train(*fit_line("--captions", captions, "--model", tiny_model, *elsewhere))
    assert done.exit_code == 1
    assert "out' cannot be written" in done.output


def test_a_validated_run_skips_counts_and_lists_pictures_that_cannot_be_read(
    tiny_model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fti_training.fit.validate.draw_all", partial(draw_all, most=700))
    captions = write_samples(tmp_path / "drawings", 40)
    pictures = sorted((tmp_path / "drawings").glob("*.png"))
    pictures[3].unlink()
    pictures[7].write_bytes(pictures[8].read_bytes()[:100])
    pictures[11].write_text("no picture")
    out = tmp_path / "out"
    settings = {"epochs": 2, "batch": 20, "validate_on": "emoji", "average": 0.9}
    done = fitted("--captions", captions, "--model", tiny_model, "--out", out, **settings)
    validated = rows_of(out / "validation.csv")
    assert [row["step"] for row in validated] == [4]
    assert 0 <= validated[0]["emoji_R@1"] <= validated[0]["emoji_R@10"] <= 1
    assert (out / "best" / "model.safetensors").read_bytes()
    assert f"{UNREADABLE} pictures could not be read" in done.output
    listed = (out / "rejects.jsonl").read_text().splitlines()
    assert len(listed) == UNREADABLE
    assert all(pictures[n].name in "".join(listed) for n in (3, 7, 11))
    assert len(rows_of(out / "log.csv")) == 4
