"""The whole command: what is captioned, skipped, listed, and kept, here and on a cluster."""

from __future__ import annotations

import hashlib
import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner
from pyarrow import parquet

from fti_training.captions.split import MIN_WORDS, choose_splitter, cut_repeated_end
from fti_training.captions.table import CaptionsTable
from fti_training.cli.captions import captions
from tests.ingest.sources_and_runs import picture, read_rejects, write_pictures
from tests.training.captions.tiny_blip import WORDS, Run, run_captions, start_captions

GOOD = 12
SLOW = 80


@dataclass(frozen=True)
class Album:
    """A folder of twelve pictures and a truncated one, and its first run."""

    root: Path
    first: Run

    @property
    def out(self) -> Path:
        return self.root / "captions.parquet"

    @property
    def rejects(self) -> Path:
        return self.root / "captions.rejects.jsonl"

    def rows(self) -> dict[str, dict[str, str]]:
        """File name -> row."""
        rows = parquet.read_table(self.out).to_pylist()
        assert len({row["uri"] for row in rows}) == len(rows)
        return {Path(row["uri"]).name: row for row in rows}


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory, tiny_blip: Path) -> Album:
    root = tmp_path_factory.mktemp("album")
    write_pictures(root / "photos", GOOD)
    picture(99, (200, 200)).save(root / "whole.jpg")
    whole = (root / "whole.jpg").read_bytes()
    (root / "photos" / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    out = root / "captions.parquet"
    first = run_captions(root / "photos", "--out", out, "--model", tiny_blip, "--batch", 4)
    return Album(root, first)


def without_split(rows: dict[str, dict[str, str]]) -> int:
    return sum(row["subject"] is None for row in rows.values())


def test_every_image_has_a_row_and_the_bad_one_is_listed(album: Album) -> None:
    assert album.first.code == 0, album.first.err
    rows = album.rows()
    assert sorted(rows) == [f"picture-{number:03d}.jpg" for number in range(GOOD)]
    unsplit = without_split(rows)
    assert album.first.line == (
        f"{GOOD + 1} images: {GOOD - unsplit} captioned, {unsplit} without a split, "
        "0 unchanged, 1 unreadable"
    )
    assert "Traceback" not in album.first.err
    rejects = read_rejects(album.rejects)
    assert list(rejects) == [str(album.root / "photos" / "truncated.jpg")]
    assert "the file is truncated" in rejects[str(album.root / "photos" / "truncated.jpg")]


def test_rows_hold_captions_parts_and_hashes(album: Album) -> None:
    splitter = choose_splitter()
    rows = album.rows()
    assert len({row["caption"] for row in rows.values()}) > 1
    for name, row in rows.items():
        file = album.root / "photos" / name
        assert row["uri"] == str(file)
        assert row["sha256"] == hashlib.sha256(file.read_bytes()).hexdigest()
        assert set(row["caption"].split()) <= set(WORDS)
        assert cut_repeated_end(row["caption"]) == row["caption"]
        split = splitter(row["caption"])
        expected = (split.subject, split.attributes) if split else (None, None)
        assert (row["subject"], row["attribute"]) == expected


def test_metadata_names_the_model_and_the_splitter(album: Album, tiny_blip: Path) -> None:
    facts = parquet.read_schema(album.out).metadata
    assert facts[b"fti_splitter"].decode() == choose_splitter().name
    assert json.loads(facts[b"fti_captioners"]) == [str(tiny_blip)]


def test_a_second_run_captions_what_is_new_or_changed(album: Album, tiny_blip: Path) -> None:
    before = album.rows()
    picture(50).save(album.root / "photos" / "added.jpg")
    picture(51).save(album.root / "photos" / "picture-003.jpg")
    arguments = ("--out", album.out, "--model", tiny_blip)
    again = run_captions(album.root / "photos", *arguments)
    assert again.code == 0, again.err
    rows = album.rows()
    new = {name: rows[name] for name in ("added.jpg", "picture-003.jpg")}
    unsplit = without_split(new)
    assert again.line == (
        f"{GOOD + 2} images: {2 - unsplit} captioned, {unsplit} without a split, "
        f"{GOOD - 1} unchanged, 1 unreadable"
    )
    assert rows["picture-003.jpg"]["sha256"] != before["picture-003.jpg"]["sha256"]
    assert {name: row for name, row in rows.items() if name not in new} == {
        name: row for name, row in before.items() if name not in new
    }


def test_nothing_new_loads_no_model(
    album: Album, tiny_blip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (album.root / "photos", "--out", album.out, "--model", tiny_blip)
    assert run_captions(*arguments).code == 0
    monkeypatch.delattr("fti_training.captions.stages.Captioner")
    again = run_captions(*arguments)
    assert again.code == 0, again.err
    assert "0 captioned, 0 without a split" in again.line


def test_killed_and_run_again(tmp_path: Path, tiny_blip: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "captions.parquet"
    photos.mkdir()
    picture(0, (1200, 900)).save(photos / "0.jpg")
    for number in range(1, SLOW):
        os.link(photos / "0.jpg", photos / f"{number}.jpg")
    arguments = (photos, "--out", out, "--model", tiny_blip, "--batch", 4, "--save-every", 0)
    process = start_captions(*arguments)
    deadline = time.monotonic() + 280
    while not out.exists():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.kill()
    process.wait()
    kept = len(CaptionsTable.read(out))
    assert 0 < kept < SLOW

    again = run_captions(*arguments[:-2])
    assert again.code == 0, again.err
    assert f"{kept} unchanged, 0 unreadable" in again.line
    uris = CaptionsTable.read(out).rows["uri"].to_pylist()
    assert sorted(uris) == sorted(str(photos / f"{number}.jpg") for number in range(SLOW))


def test_a_worker_of_a_cluster_writes_the_same_captions(
    tmp_path: Path, tiny_blip: Path, ray_cluster: dict[str, str]
) -> None:
    write_pictures(tmp_path / "photos", 5)
    (tmp_path / "photos" / "bad.jpg").write_text("no picture")
    ours, theirs = tmp_path / "here.parquet", tmp_path / "there.parquet"
    arguments = ("--model", tiny_blip, "--batch", 8)
    assert run_captions(tmp_path / "photos", "--out", ours, *arguments).code == 0
    line = (tmp_path / "photos", "--out", theirs, *arguments, "--engine", "ray")
    process = start_captions(*line, **ray_cluster)
    output, errors = process.communicate(timeout=280)
    assert process.returncode == 0, errors
    assert "0 unchanged, 1 unreadable" in output
    here, there = (CaptionsTable.read(one).rows.sort_by("uri") for one in (ours, theirs))
    assert here.equals(there)


def test_captions_of_the_user_enter_at_the_split(tmp_path: Path) -> None:
    write_pictures(tmp_path / "photos", 3)
    (tmp_path / "mine.csv").write_text(
        "uri,caption\nphotos/picture-000.jpg,a woman in a red dress dress\n"
        "photos/picture-001.jpg,a red dress\nphotos/picture-002.jpg,\nmissing.jpg,a dog in a park\n"
    )
    out = tmp_path / "new" / "captions.parquet"
    run = run_captions("--from-captions", tmp_path / "mine.csv", "--out", out)
    assert run.code == 0, run.err
    assert run.line == "4 images: 1 captioned, 1 without a split, 0 unchanged, 2 unreadable"
    assert list(read_rejects(out.with_suffix(".rejects.jsonl")).values()) == [
        "no caption",
        "no such file",
    ]
    rows = CaptionsTable.read(out).rows.to_pylist()
    message = {(row["caption"], row["subject"], row["attribute"]) for row in rows}
    assert message == {
        ("a woman in a red dress dress", "a woman", "in a red dress dress"),
        ("a red dress", None, None),
    }
    assert len(["a", "red", "dress"]) < MIN_WORDS
    assert CaptionsTable.read(out).captioners == ["mine.csv"]


def test_weights_that_a_worker_cannot_load(tmp_path: Path, tiny_blip: Path) -> None:
    write_pictures(tmp_path / "photos", 1)
    model, out = tmp_path / "model", tmp_path / "captions.parquet"
    model.mkdir()
    for file in tiny_blip.glob("*.json"):
        (model / file.name).write_bytes(file.read_bytes())
    arguments = (tmp_path / "photos", "--out", out, "--model", model)
    run = run_captions(*arguments)
    assert run.code == 2
    assert f"model '{model}' cannot be loaded" in run.error
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (["photos"], "Missing option '--out'", 2),
        (["--out", "c.parquet"], "either IMAGES or --from-captions", 2),
        (["photos", "--from-captions", "mine.csv", "--out", "c.parquet"], "either IMAGES or", 2),
        (["nowhere", "--out", "c.parquet"], "no such file or folder", 2),
        (["empty", "--out", "c.parquet"], "holds no images", 2),
        (["photos", "--out", "c.parquet", "--model", "no/such/model"], "'no/such/model' cannot", 2),
        (["photos", "--out", "mine.csv"], "is not a captions file of fti-train", 2),
        (["photos", "--out", "mine.csv/c.parquet"], "cannot be written", 1),
        (["--from-captions", "bad.csv", "--out", "c.parquet"], "has no column 'image' or 'uri'", 2),
        (["photos", "--out", "c.parquet", "--batch", "0"], "--batch", 2),
        (
            ["photos", "--out", "c.parquet", "--engine", "local", "--workers", "2"],
            "--engine local runs one worker",
            2,
        ),
    ],
)
def test_bad_input_is_one_line(
    arguments: list[str], message: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "photos", 1)
    (tmp_path / "empty").mkdir()
    (tmp_path / "mine.csv").write_text("uri,caption\nphotos/picture-000.jpg,a cat on a mat\n")
    (tmp_path / "bad.csv").write_text("picture,caption\na.jpg,a cat on a mat\n")
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(captions, arguments)
    assert result.exit_code == code, result.output
    assert message in result.output
    assert "Traceback" not in result.output
    assert not (tmp_path / "c.parquet").exists()


def test_a_cluster_that_does_not_answer_is_a_failure(
    tmp_path: Path, tiny_blip: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_pictures(tmp_path / "photos", 1)
    arguments = [str(tmp_path / "photos"), "--out", str(tmp_path / "c.parquet")]
    arguments += ["--model", str(tiny_blip), "--ray-address", "127.0.0.1:1"]
    result = CliRunner().invoke(captions, arguments)
    assert result.exit_code == 1
    assert "Ray cluster 127.0.0.1:1: it does not answer" in result.output
