"""Ray clusters in processes of their own: a test's own process has nothing to do with Ray."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


@contextmanager
def started(script: str, access: Mapping[str, str]) -> Iterator[subprocess.Popen[str]]:
    """Runs a script that prints its cluster's address and ends when its input does."""
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, **access},
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
