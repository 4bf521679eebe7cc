"""Ray clusters in processes of their own: a test's own process has nothing to do with Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]


@contextmanager
def started(script: str, access: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Runs a script that prints its cluster's address and ends when its input does."""
    paths = filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        # a package on this machine may install its own "tests", and workers have no other path
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), **access},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    try:
        yield process
    finally:
        process.stdin.close()
        process.wait(timeout=60)
