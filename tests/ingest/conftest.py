"""Fixtures of the ingest tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ingest.servers import Start, servers


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """``servers`` in the test's own folder."""
    with servers(tmp_path / "server") as start_one:
        yield start_one
