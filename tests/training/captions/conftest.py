"""The tiny captioner, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.training.captions.tiny_blip import save_tiny_blip


@pytest.fixture(scope="session")
def tiny_blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a BLIP of random weights."""
    return save_tiny_blip(tmp_path_factory.mktemp("models") / "blip")
