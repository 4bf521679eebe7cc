"""Checkpoints of stand-in networks."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.model.importer.standins import IMG2TEXT, network, save

MINI_SIZES = (192, 192)
"""w and d of the embedded backbone."""


@pytest.fixture(scope="session")
def for_mini() -> IMG2TEXT:
    """A network for the embedded backbone; not to be changed."""
    torch.manual_seed(7)
    return network(*MINI_SIZES)


@pytest.fixture(scope="session")
def checkpoint(for_mini: IMG2TEXT, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``for_mini`` as the authors save it; not to be changed."""
    return save(for_mini, tmp_path_factory.mktemp("authors") / "FTI4CIR_model.pth")


@pytest.fixture(params=[True, False], ids=["zip", "stream"])
def zipped(request: pytest.FixtureRequest) -> bool:
    """Both formats of torch.save."""
    return bool(request.param)
