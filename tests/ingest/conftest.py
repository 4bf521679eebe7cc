"""Fixtures of the ingest tests."""

from __future__ import annotations

import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from fti_qdrant.gallery import connect
from tests.ingest.servers import KEY, REAL, STANDIN, Server, Start


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Starts a stand-in on a folder, or names a fresh collection on the real server.

    Where it starts again, what was stored before is there.
    """
    collection = f"fti-test-{uuid.uuid4().hex[:8]}"
    processes: list[subprocess.Popen[str]] = []

    def start_one(*options: str) -> Server:
        if REAL:
            return Server(REAL, collection, KEY)
        command = [sys.executable, str(STANDIN), "--data", str(tmp_path / "server"), *options]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stdout = processes[-1].stdout
        assert stdout is not None
        return Server(
            stdout.readline().strip(), collection, KEY if "--api-key" in options else None
        )

    yield start_one
    for process in processes:
        process.kill()
        process.communicate()
    if REAL:
        connect(REAL, KEY).delete_collection(collection)
