"""Which engine runs a command, and that both leave the same gallery."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fti_ingest.engine.choose import EngineChoice
from fti_qdrant.cli import extras
from fti_qdrant.gallery import EdgeGallery
from tests.ingest.servers import Start
from tests.ingest.sources_and_runs import (
    ingest,
    picture,
    read_rejects,
    write_bad_pictures,
    write_csv,
    write_odd_pictures,
    write_pictures,
)


class TestChoice:
    @pytest.mark.parametrize(
        ("choice", "engine"),
        [
            (EngineChoice(), "local"),
            (EngineChoice(workers=2), "ray"),
            (EngineChoice(gpus_per_worker=2), "ray"),
            (EngineChoice(ray_address="auto"), "ray"),
            (EngineChoice("local"), "local"),
            (EngineChoice("ray"), "ray"),
        ],
    )
    def test_auto_takes_ray_where_this_process_is_not_enough(
        self, choice: EngineChoice, engine: str
    ) -> None:
        assert choice.resolved == engine

    @pytest.mark.parametrize("engine", ["local", "auto", "ray"])
    def test_ray_is_asked_for_before_any_work(
        self, engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(extras, "find_spec", lambda name: None)
        write_pictures(tmp_path / "photos", 1)
        workers = "1" if engine != "auto" else "2"
        options = ("--engine", engine, "--workers", workers)
        run = ingest("photos", "--gallery", "g", *options, cwd=tmp_path)
        if engine == "local":
            assert run.code == 0, run.err
        else:
            assert run.code == 2
            assert "needs the package ray: pip install 'fti-qdrant[ray]'" in run.error
            assert not (tmp_path / "g").exists()

    def test_a_gpu_that_is_not_there(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch

        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        write_pictures(tmp_path / "photos", 1)
        run = ingest("photos", "--gallery", "g", "--gpus-per-worker", "0.5", cwd=tmp_path)
        assert run.code == 2
        assert "--gpus-per-worker 0.5 needs a GPU, and this machine has none" in run.error

    def test_a_cluster_that_does_not_answer_is_a_failure(self, tmp_path: Path) -> None:
        write_pictures(tmp_path / "photos", 1)
        arguments = ("photos", "--gallery", "g", "--ray-address", "127.0.0.1:1")
        run = ingest(*arguments, cwd=tmp_path)
        assert run.code == 1
        assert "Ray cluster 127.0.0.1:1: it does not answer" in run.error


def write_shop(folder: Path) -> None:
    """Pictures of all kinds, duplicates and bad ones among them."""
    names = write_pictures(folder, 60)
    odd, bad = write_odd_pictures(folder), write_bad_pictures(folder)
    picture(3).save(folder / "copy.jpg", quality=90)
    picture(4).save(folder / "again.png")
    names = [*names[:30], *bad, *names[30:], "copy.jpg", "again.png", *odd]
    write_csv(
        folder / "shop.csv",
        [
            {"image": name, "price": number / 4, "brand": "AB"[number % 2]}
            for number, name in enumerate(names)
        ],
    )


COMPARED = ("images", "stored", "updated", "unchanged", "rejected", "skipped", "duplicates")


def outcome_of(folder: Path, gallery: str) -> tuple[Any, ...]:
    """All that a run leaves but vectors and times."""
    report = json.loads((folder / gallery / "report.json").read_text())
    found = folder / gallery / "duplicates.jsonl"
    duplicates = found.read_text().splitlines() if found.exists() else []
    return (
        {name: report[name] for name in COMPARED},
        read_rejects(folder / gallery / "rejects.jsonl"),
        sorted(duplicates),
    )


def test_both_engines_leave_the_same_gallery(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    """Ids, payloads, vectors, pseudo-words, rejects, duplicates and counts; and after a change."""
    write_shop(tmp_path)
    held: dict[str, Any] = {}
    for change in (False, True):
        if change:
            manifest = tmp_path / "shop.csv"
            manifest.write_text(manifest.read_text().replace("001.jpg,0.25", "001.jpg,9"))
            picture(777).save(tmp_path / "picture-002.jpg", quality=90)
        for engine, access in (("local", {}), ("ray", ray_cluster)):
            options = ("--engine", engine, "--dedupe", "mark", "--pseudo-words")
            run = ingest("shop.csv", "--gallery", engine, *options, cwd=tmp_path, **access)
            assert run.code == 0, run.err
            assert json.loads((tmp_path / engine / "report.json").read_text())["engine"] == engine
            with EdgeGallery.open(tmp_path / engine) as gallery:
                held[engine] = gallery.retrieve([id for id, _ in gallery.scroll()])
        assert outcome_of(tmp_path, "local") == outcome_of(tmp_path, "ray")
        assert len(held["local"]) == len(held["ray"]) == 67
        for ours, theirs in zip(held["local"], held["ray"]):
            assert (ours.id, ours.payload) == (theirs.id, theirs.payload)
            np.testing.assert_allclose(ours.vector, theirs.vector, atol=1e-6)
            np.testing.assert_allclose(ours.words, theirs.words, atol=2e-3)


def test_several_workers_write_to_a_server_themselves(
    tmp_path: Path, start: Start, ray_cluster: dict[str, str]
) -> None:
    """Through ray-qdrant's sink, with a server that is busy at first; then as one worker does."""
    write_shop(tmp_path)
    server = start("--busy", "4")
    access = {**ray_cluster, **server.environment}
    run = ingest("shop.csv", *server.arguments, "--workers", "2", cwd=tmp_path, **access)
    assert run.code == 0, run.err
    assert run.line == "74 images in: 67 stored, 0 unchanged, 7 rejected"
    with server.open() as gallery:
        many = gallery.retrieve(sorted(id for id, _ in gallery.scroll()))
    with (tmp_path / "shop.csv").open() as file:
        rows = list(csv.DictReader(file))
    write_csv(tmp_path / "shop.csv", [{**row, "brand": "C"} for row in rows[:10]])
    run = ingest("shop.csv", *server.arguments, "--workers", "2", cwd=tmp_path, **access)
    assert run.line.endswith("0 rejected, 10 updated (payload only)"), run.err
    write_csv(tmp_path / "shop.csv", rows)
    assert ingest("shop.csv", "--gallery", "g", cwd=tmp_path).code == 0
    with EdgeGallery.open(tmp_path / "g") as gallery:
        one = gallery.retrieve(sorted(id for id, _ in gallery.scroll()))
    assert [(a.id, a.payload) for a in many] == [(b.id, b.payload) for b in one]
    for ours, theirs in zip(many, one):
        np.testing.assert_allclose(ours.vector, theirs.vector, atol=1e-5)


def test_more_gpus_than_the_cluster_has(tmp_path: Path) -> None:
    """Ray would wait for them for ever; a cluster that is joined may grow."""
    write_pictures(tmp_path / "photos", 1)
    asked = ("photos", "--gallery", "g", "--workers", "2", "--gpus-per-worker", "500")
    run = ingest(*asked, cwd=tmp_path)
    assert run.code == 2
    assert "workers=2 with gpus_per_worker=500 need 1000 GPUs; the cluster has" in run.error
    assert "RAY_ADDRESS" not in os.environ
