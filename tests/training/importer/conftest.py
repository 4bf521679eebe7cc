"""The checkpoints of the importer's tests, and sizes that are read once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from fti_training.importer import import_inverter
from fti_training.importer.backbone_sizes import sizes_of
from tests.model.importer.conftest import checkpoint, for_mini

__all__ = ["checkpoint", "for_mini"]


@pytest.fixture(scope="session", autouse=True)
def _sizes_read_once() -> Iterator[None]:
    """The sizes of a backbone do not change; reading those of ``mini`` loads it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(import_inverter, "sizes_of", cache(sizes_of))
        yield
