"""The device that a backbone runs on."""

from __future__ import annotations

import torch

from fti_qdrant.errors import UnsupportedModel, first_line


def check_device(device: str | torch.device) -> None:
    """Raises UnsupportedModel where there is no such device."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise UnsupportedModel(
            f"device {str(device)!r} cannot be used: {first_line(error)}; use cuda, mps or cpu"
        ) from None


def best_device() -> str:
    """cuda if available, else Apple's mps, else cpu."""
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
