"""A run that is killed in the middle, and run again, ends with every image exactly once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from pathlib import Path

from fti_qdrant.gallery import EdgeGallery, point_id
from tests.ingest.sources_and_runs import (
    MARK,
    ingest,
    picture,
    read_rejects,
    wait_until_gone,
)

GOOD, BAD = 300, 30

AGENTS = ("ray::DashboardAgent", "ray::RuntimeEnvAgent")
"""They look for their dead cluster for a minute before they end themselves, and do nothing."""


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


def test_killed_and_run_again(tmp_path: Path, ray_cluster: dict[str, str]) -> None:
    wanted = write_source(tmp_path / "photos")
    gallery, rejects = tmp_path / "gallery", tmp_path / "gallery" / "rejects.jsonl"
    mark = uuid.uuid4().hex
    process = subprocess.Popen(
        [sys.executable, "-m", "fti_ingest.cli", "photos", "--gallery", "gallery"],
        cwd=tmp_path,
        env={**os.environ, MARK: mark},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 280
    # the first batch is stored before its bad files are listed
    while not (rejects.exists() and rejects.stat().st_size):
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert wait_until_gone(mark, AGENTS) == []
    assert read_rejects(rejects)  # what was found bad until then is listed

    stored = ids_in(gallery)
    assert 0 < len(stored) < GOOD
    assert set(stored) < wanted

    again = ingest("photos", "--gallery", "gallery", cwd=tmp_path, **ray_cluster)
    assert again.code == 0, again.err
    assert again.line == (
        f"{GOOD + BAD} images in: {GOOD - len(stored)} stored, {len(stored)} unchanged, "
        f"{BAD} rejected"
    )
    assert ids_in(gallery) == Counter(wanted)
    assert len(read_rejects(rejects)) == BAD
