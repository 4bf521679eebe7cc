"""Training checkpoints: safetensors and JSON in one file, replaced atomically, never unpickled."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fti_qdrant.errors import CheckpointError


def save(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any]
) -> None:
    """Writes weights, optimizer state and facts; an interrupted write leaves the old file."""
    tensors = {f"module.{name}": value for name, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{key}": value for key, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(path.name + ".part")
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    save_file(contiguous, fresh, metadata={"facts": json.dumps(facts)})
    with fresh.open("rb") as file:
        os.fsync(file.fileno())
    fresh.replace(path)


def load(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restores what ``save`` wrote and returns its facts.

    Raises:
        CheckpointError: truncated, or of another architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        weights = _under("module.", tensors)
        module.load_state_dict(weights)
        optimizer.load_state_dict(_optimizer_state(optimizer, _under("optimizer.", tensors)))
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise CheckpointError(
            f"checkpoint {str(path)!r} cannot be used ({reason}); delete it to start anew"
        ) from error
    return dict(facts)


def _under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _optimizer_state(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
