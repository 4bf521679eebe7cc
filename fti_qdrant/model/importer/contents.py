"""The tensors and modules of a checkpoint by their dotted names."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from fti_qdrant.errors import CheckpointError, first_line
from fti_qdrant.model.importer.stand_ins import StoredModule, StoredTensor

WRAPPER = "module."
"""DataParallel's prefix."""

NETWORK = "IMG2TEXT"

LOSSES = "torch.nn.modules.loss"
"""Home of the losses that a network keeps; their tensors are no weights of it."""


@dataclass(frozen=True)
class CheckpointContents:
    """The contents of a checkpoint.

    Attributes:
        tensors: by the authors' names, without DataParallel's prefix and without those of losses.
        modules: by the same names, the network itself as ``""``; None for a state dict, which
            states no hyperparameters.
    """

    tensors: dict[str, Tensor]
    modules: dict[str, StoredModule] | None = None


def contents_of(loaded: Any) -> CheckpointContents:
    """The tensors and modules of what ``read_checkpoint`` returned.

    Raises:
        CheckpointError: neither the authors' network nor a state dict, or a tensor that does not
            fit its storage.
    """
    if isinstance(loaded, StoredModule) and type(loaded).__name__ == "DataParallel":
        loaded = _table(loaded, "_modules").get("module")
    if isinstance(loaded, StoredModule):
        if type(loaded).__name__ != NETWORK:
            raise CheckpointError(f"it holds a {type(loaded).__name__}, not an {NETWORK}")
        modules = dict(_walk(loaded))
        return CheckpointContents(dict(_tensors(modules)), modules)
    if not isinstance(loaded, dict):
        raise CheckpointError(f"it holds a {type(loaded).__name__}, no network and no state dict")
    return CheckpointContents(_state_dict(loaded))


def _state_dict(loaded: dict[Any, Any]) -> dict[str, Tensor]:
    stored: dict[str, StoredTensor] = {}
    for name, value in loaded.items():
        if not isinstance(name, str) or not isinstance(value, StoredTensor):
            key = repr(name[:80]) if isinstance(name, str) else f"a {type(name).__name__}"
            raise CheckpointError(
                f"it is no state dict: the value at {key} is a {type(value).__name__}, no tensor"
            )
        stored[name] = value
    return unwrapped({name: _tensor(name, value) for name, value in stored.items()})


def unwrapped(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict without the prefix that DataParallel puts before every name."""
    if not all(name.startswith(WRAPPER) for name in tensors):
        return tensors
    return {name.removeprefix(WRAPPER): value for name, value in tensors.items()}


def _walk(root: StoredModule) -> Iterator[tuple[str, StoredModule]]:
    """(dotted name, module), each module once, even if it has several names."""
    waiting, visited = [("", root)], set()
    while waiting:
        name, module = waiting.pop()
        if id(module) in visited:
            continue
        visited.add(id(module))
        yield name, module
        for child_name, child in _table(module, "_modules").items():
            if isinstance(child, StoredModule):
                waiting.append((_dotted(name, child_name), child))
            elif child is not None:
                raise CheckpointError(f"{_dotted(name, child_name)!r} is no module")


def _tensors(modules: dict[str, StoredModule]) -> Iterator[tuple[str, Tensor]]:
    for owner, module in modules.items():
        if type(module).__module__ == LOSSES:
            continue
        for kind in ("_parameters", "_buffers"):
            for name, value in _table(module, kind).items():
                full = _dotted(owner, name)
                if isinstance(value, StoredTensor):
                    yield full, _tensor(full, value)
                elif value is not None:
                    raise CheckpointError(f"{full!r} is no tensor")


def _table(module: StoredModule, name: str) -> dict[Any, Any]:
    table = module.state.get(name)
    if not isinstance(table, dict):
        raise CheckpointError(f"a {type(module).__name__} has no {name}; the file is damaged")
    return table


def _dotted(owner: str, name: object) -> str:
    if not isinstance(name, str):
        raise CheckpointError(f"a part of {owner or NETWORK!r} has no name; the file is damaged")
    return f"{owner}.{name}" if owner else name


def _tensor(name: str, stored: StoredTensor) -> Tensor:
    """A view of the storage; refused where it would repeat values or exceed the storage."""
    storage = stored.storage
    try:
        values = torch.empty(0, dtype=getattr(torch, storage.dtype))
        if storage.count:
            values = torch.frombuffer(storage.data, dtype=values.dtype)
        if math.prod(stored.shape) > storage.count:
            raise ValueError(f"{storage.count} values are too few")
        return values.as_strided(stored.shape, stored.stride, stored.offset)
    except (ValueError, TypeError, RuntimeError, OverflowError) as error:
        reason = first_line(error)
        raise CheckpointError(f"tensor {name!r} does not fit its storage: {reason}") from error
