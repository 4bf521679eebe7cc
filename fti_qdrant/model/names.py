"""Names of models on this machine. Importable without torch, which takes seconds to load."""

from __future__ import annotations

from pathlib import Path

MINI = Path(__file__).parents[1] / "weights" / "mini"
"""Folder of the embedded default: an open_clip config with weights, and an inverter."""


def local_folder(name: str) -> Path | None:
    """The folder of a local model; None for others."""
    if name == "mini":
        return MINI
    return Path(name.removeprefix("local-dir:")) if name.startswith("local-dir:") else None


def absolute_name(name: str) -> str:
    """The same model, by a name that is valid in any working directory."""
    if not name.startswith("local-dir:"):
        return name
    return f"local-dir:{Path(name.removeprefix('local-dir:')).resolve()}"
