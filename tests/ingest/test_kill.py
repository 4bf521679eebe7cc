"""A run that is killed or interrupted, and run again, ends with every image exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from fti_qdrant.gallery import EdgeGallery, point_id
from tests.commands import StartedCommand
from tests.ingest.sources_and_runs import ingest, picture, read_rejects, start_ingest

GOOD, BAD = 400, 40


def write_source(folder: Path) -> set[str]:
    """Slow pictures, each eleventh a bad one; returns the ids of the good."""
    folder.mkdir()
    picture(0, (1600, 1200)).save(folder / "0.jpg")
    for number in range(1, GOOD):
        os.link(folder / "0.jpg", folder / f"{number}.jpg")
    for number in range(BAD):
        (folder / f"{number * 10}-bad.jpg").write_bytes(b"")
    return {point_id(f"{number}.jpg") for number in range(GOOD)}


def ids_in(path: Path) -> Counter[str]:
    with EdgeGallery.open(path) as gallery:
        return Counter(id for id, _ in gallery.scroll())


def wait_for(what: Callable[[], bool], process: StartedCommand | subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 120
    while not what():
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)


def begun(gallery: Path) -> Callable[[], bool]:
    """Whether the first batch is stored: its bad files are listed then."""
    rejects = gallery / "rejects.jsonl"
    return lambda: rejects.exists() and rejects.stat().st_size > 0


def assert_finishes(root: Path, wanted: set[str]) -> None:
    """What is stored is a part of the whole, and the same command adds the rest."""
    stored = ids_in(root / "gallery")
    assert 0 < len(stored) < GOOD
    assert set(stored) < wanted
    again = ingest("photos", "--gallery", "gallery", cwd=root)
    assert again.code == 0, again.err
    assert again.line == (
        f"{GOOD + BAD} images in: {GOOD - len(stored)} stored, {len(stored)} unchanged, "
        f"{BAD} rejected"
    )
    assert ids_in(root / "gallery") == Counter(wanted)
    assert len(read_rejects(root / "gallery" / "rejects.jsonl")) == BAD


def test_killed_and_run_again(tmp_path: Path) -> None:
    wanted = write_source(tmp_path / "photos")
    line = ("-m", "fti_ingest.cli", "photos", "--gallery", "gallery", "--model", "mini")
    silent = subprocess.DEVNULL
    process = subprocess.Popen([sys.executable, *line], cwd=tmp_path, stdout=silent, stderr=silent)
    wait_for(begun(tmp_path / "gallery"), process)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert read_rejects(tmp_path / "gallery" / "rejects.jsonl")  # bad files until then are listed
    assert_finishes(tmp_path, wanted)


def test_ctrl_c_while_embedding_keeps_what_is_stored(tmp_path: Path) -> None:
    wanted = write_source(tmp_path / "photos")
    process = start_ingest("photos", "--gallery", "gallery", cwd=tmp_path)
    wait_for(begun(tmp_path / "gallery"), process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert out == ""
    [line] = [line for line in err.splitlines() if not line.startswith("images ")]
    assert line == (
        "stopped; what is stored stays in gallery 'gallery', and the same command continues"
    )
    assert not (tmp_path / "gallery" / "report.json").exists()
    assert_finishes(tmp_path, wanted)


@pytest.mark.parametrize("moment", ["listing", "loading"])
def test_ctrl_c_before_anything_is_stored(tmp_path: Path, moment: str) -> None:
    (tmp_path / "photos").mkdir()
    for number in range(20_000 if moment == "listing" else 10):
        (tmp_path / "photos" / f"{number}.jpg").touch()
    options = ("--gallery", "gallery", "--log", "log.jsonl")
    process = start_ingest("photos", *options, cwd=tmp_path)
    event = "started" if moment == "listing" else "listed"
    log = tmp_path / "log.jsonl"
    wait_for(lambda: log.exists() and f'"{event}"' in log.read_text(), process)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    lines = [line for line in err.splitlines() if not line.startswith("images ")]
    assert len(lines) == 1
    assert "stopped" in lines[0]
