"""Temporary folders of runs: gone with them, and those of killed runs with the next one."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from fti_ingest.sources.scratch_folder import LOCK_FILE, PREFIX, SETTLED, Scratch

HOLDER = """
import time
from fti_ingest.sources.scratch_folder import Scratch
held = Scratch()
print(held.path, flush=True)
time.sleep(600)
"""


@pytest.fixture(autouse=True)
def _own_tmpdir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def grow_old(folder: Path) -> None:
    then = (folder / LOCK_FILE).stat().st_mtime - SETTLED
    os.utime(folder / LOCK_FILE, (then, then))


def test_it_goes_with_its_run(tmp_path: Path) -> None:
    scratch = Scratch()
    assert scratch.path.parent == tmp_path
    del scratch
    assert list(tmp_path.iterdir()) == []


def test_that_of_a_killed_run_goes_with_the_next_one_and_that_of_a_living_one_stays() -> None:
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    (folder / "items.arrow").write_bytes(b"much")
    grow_old(folder)
    Scratch()
    assert (folder / "items.arrow").exists()
    process.send_signal(signal.SIGKILL)
    process.communicate()
    Scratch()
    assert not folder.exists()


def test_what_is_not_ours_stays(tmp_path: Path) -> None:
    (tmp_path / f"{PREFIX}mine").mkdir()
    new = Scratch()  # made a moment ago, perhaps not held yet
    new._lock.release()
    Scratch()
    assert {path.name for path in tmp_path.iterdir()} == {f"{PREFIX}mine", new.path.name}
