"""Models small enough that whole commands run in a test."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import save_file

from tests.conftest import TINY


@pytest.fixture(scope="session")
def tiny_model(tiny_clip: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of ``tiny_clip``, saved as a model folder."""
    folder = tmp_path_factory.mktemp("models") / "tiny"
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(TINY))
    weights = {name: value.contiguous() for name, value in tiny_clip.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"
