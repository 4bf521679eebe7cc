"""Ctrl-C at any moment ends what runs on several threads: it neither hangs nor fails otherwise."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRIALS = 100

INTERRUPTED = """
import random, signal, time
from fti_ingest.engine.ahead import made_ahead
from fti_qdrant.parallel_map import parallel_map

def interrupt(*_):
    raise KeyboardInterrupt

def work(n):
    return sum(range(2_000))

signal.signal(signal.SIGALRM, interrupt)
for trial in range({trials}):
    random.seed(trial)
    signal.setitimer(signal.ITIMER_REAL, 0.001 + random.random() * 0.05)
    try:
        for _ in {items}:
            pass
        time.sleep(1)
    except KeyboardInterrupt:
        print("stopped")
"""


@pytest.mark.parametrize(
    "items",
    [
        "parallel_map(work, range(3_000))",  # one in ten, with ThreadPoolExecutor.map
        "made_ahead(work(n) for n in range(3_000))",  # one in two hundred, with queue.Queue
    ],
)
def test_ctrl_c_at_any_moment(items: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED.format(trials=TRIALS, items=items)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("stopped\n" * TRIALS, "")
