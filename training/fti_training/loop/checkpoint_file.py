"""Weights and optimizer state in one file: safetensors and JSON, replaced atomically, no pickle."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from fti_qdrant.atomic_files import replacing
from fti_qdrant.errors import CheckpointError, first_line

MODULE, OPTIMIZER = "module.", "optimizer."


def save(
    path: Path, module: nn.Module, optimizer: torch.optim.Optimizer, facts: dict[str, Any]
) -> None:
    """Writes weights, optimizer state and facts; an interrupted write leaves the old file.

    Args:
        facts: what else a checkpoint must hold, as JSON.

    Raises OSError or SafetensorError where the file cannot be written.
    """
    tensors = {f"{MODULE}{name}": value for name, value in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"{OPTIMIZER}{index}.{key}": value for key, value in state.items()}
    contiguous = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    with replacing(path) as part:
        save_file(contiguous, part, metadata={"facts": json.dumps(facts)})


def load(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Restores what ``save`` wrote and returns its facts.

    Raises CheckpointError: missing, truncated, or of another architecture.
    """
    try:
        with safe_open(path, framework="pt") as file:
            facts = json.loads((file.metadata() or {})["facts"])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        module.load_state_dict(_with_prefix(MODULE, tensors))
        state = _optimizer_state(optimizer, _with_prefix(OPTIMIZER, tensors))
        optimizer.load_state_dict(state)
    except (SafetensorError, OSError, KeyError, RuntimeError, ValueError) as error:
        raise CheckpointError(
            f"checkpoint {str(path)!r} cannot be used ({first_line(error)}); delete its folder to "
            "resume from the checkpoint before it"
        ) from error
    return dict(facts)


def _with_prefix(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _optimizer_state(optimizer: torch.optim.Optimizer, flat: dict[str, Tensor]) -> dict[str, Any]:
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in flat.items():
        index, key = name.split(".", 1)
        state.setdefault(int(index), {})[key] = value
    return {"state": state, "param_groups": optimizer.state_dict()["param_groups"]}
