"""``fti-train fit`` as a command: workers, kills, resume, caches, on drawings, with ``mini``."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from fti_qdrant.composers.composer import Composer
from tests.training.fit.runs import command, rows_of, run, start, training_workers, write_samples

Cluster = dict[str, str]
BAD = 3


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_samples(tmp_path_factory.mktemp("drawings"), 100)


@pytest.fixture(scope="module")
def undisturbed(
    captions: Path, ray_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a run of 20 steps with one worker."""
    out = tmp_path_factory.mktemp("fit") / "undisturbed"
    done = run(command("--captions", captions, "--out", out), ray_cluster)
    assert done.returncode == 0, done.stderr
    assert "Composer.load('mini'" in done.stdout
    return out


def weights(out: Path) -> dict[str, torch.Tensor]:
    return load_file(out / "inverter" / "model.safetensors")


def same(one: Path, other: Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return mine.keys() == theirs.keys() and all(torch.equal(mine[k], theirs[k]) for k in mine)


def wait_for_step(out: Path, step: int) -> None:
    until = time.monotonic() + 300
    while time.monotonic() < until:
        rows = rows_of(out / "log.csv")
        if rows and rows[-1]["step"] >= step:
            return
        time.sleep(0.05)
    raise AssertionError(f"step {step} was not reached: {rows_of(out / 'log.csv')[-1:]}")


def test_it_learns_and_leaves_an_inverter_that_loads(undisturbed: Path) -> None:
    rows = rows_of(undisturbed / "log.csv")
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert rows[-1]["total"] < 0.8 * rows[0]["total"]
    for row in rows:
        whole = row["contrastive"] + row["orthogonality"] + 1.4 * row["tri_wise"]
        assert row["total"] == pytest.approx(whole, rel=1e-5)
        assert 1 <= row["mean_count"] <= 12
    assert [row["lr"] for row in rows[:4]] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3])
    assert Composer.load("mini", str(undisturbed / "inverter")).inverter is not None
    assert list((undisturbed / "tensorboard").glob("events*"))


def test_two_workers_have_the_loss_curve_of_one(
    captions: Path, ray_cluster: Cluster, tmp_path: Path
) -> None:
    """Without dropout, whose masks each worker draws for itself.

    Sums in another order differ in their last digits, and a high learning rate makes more of that
    with each step; gradients are compared in ``test_world.py``.
    """
    curves = []
    for workers in (1, 2):
        out = tmp_path / str(workers)
        line = command("--captions", captions, "--out", out, dropout=0, lr=2e-4, workers=workers)
        done = run(line, ray_cluster)
        assert done.returncode == 0, done.stderr
        curves.append(rows_of(out / "log.csv"))
    assert len(curves[0]) == len(curves[1]) == 20
    for one, two in zip(*curves):
        for name in ("total", "contrastive", "orthogonality", "tri_wise", "mean_count"):
            assert two[name] == pytest.approx(one[name], abs=1e-4), (name, one["step"])


def test_a_killed_worker_costs_no_more_than_the_steps_since_the_checkpoint(
    captions: Path, undisturbed: Path, ray_cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "killed"
    running = start(command("--captions", captions, "--out", out), ray_cluster)
    wait_for_step(out, 7)
    workers = training_workers(ray_cluster["RAY_AUTH_TOKEN"])
    assert workers
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    _, errors = running.communicate(timeout=400)
    assert running.returncode == 0, errors
    assert same(out, undisturbed)
    assert [row["step"] for row in rows_of(out / "log.csv")] == list(range(1, 21))


def test_a_killed_run_is_resumed_to_the_weights_of_an_undisturbed_one(
    captions: Path, undisturbed: Path, ray_cluster: Cluster, tmp_path: Path
) -> None:
    out = tmp_path / "resumed"
    line = command("--captions", captions, "--out", out, "--storage", f"file://{tmp_path}/store")
    running = start(line, ray_cluster)
    wait_for_step(out, 7)
    running.kill()
    running.wait()
    refused = run(line, ray_cluster)
    assert refused.returncode == 2
    assert "pass --resume" in refused.stderr
    other = run([*line, "--resume", "--set=lr=1"], ray_cluster)
    assert other.returncode == 2
    assert "lr was 0.001" in other.stderr
    done = run([*line, "--resume"], ray_cluster)
    assert done.returncode == 0, done.stderr
    assert same(out, undisturbed)
    assert [row["step"] for row in rows_of(out / "log.csv")] == list(range(1, 21))


def test_a_validated_run_skips_counts_and_lists_pictures_that_cannot_be_read(
    ray_cluster: Cluster, tmp_path: Path
) -> None:
    captions = write_samples(tmp_path / "drawings", 40)
    pictures = sorted((tmp_path / "drawings").glob("*.png"))
    pictures[3].unlink()
    pictures[7].write_bytes(pictures[8].read_bytes()[:100])
    pictures[11].write_text("no picture")
    out = tmp_path / "out"
    settings = {"epochs": 2, "batch": 20, "validate_on": "emoji", "average": 0.9}
    done = run(command("--captions", captions, "--out", out, **settings), ray_cluster)
    assert done.returncode == 0, done.stderr
    validated = rows_of(out / "validation.csv")
    assert [row["step"] for row in validated] == [4]
    assert 0 <= validated[0]["emoji_R@1"] <= validated[0]["emoji_R@10"] <= 1
    assert (out / "best" / "model.safetensors").read_bytes()
    assert f"{BAD} pictures could not be read" in done.stdout
    listed = (out / "rejects.jsonl").read_text().splitlines()
    assert len(listed) == BAD
    assert all(pictures[n].name in "".join(listed) for n in (3, 7, 11))
    assert len(rows_of(out / "log.csv")) == 4
