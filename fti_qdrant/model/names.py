"""Names of models on this machine. Importable without torch, which takes seconds to load."""

from __future__ import annotations

from pathlib import Path

MINI = Path(__file__).parents[1] / "weights" / "mini"
"""Folder of the embedded default: an open_clip config with weights, and an inverter."""

LOCAL, TRANSFORMERS = "local-dir:", "hf:"
"""Prefixes of a folder, and of a hub repository with a CLIPModel of transformers."""

OPEN_CLIP_CONFIG, TRANSFORMERS_CONFIG = "open_clip_config.json", "config.json"
"""The file that says what a folder or repository holds."""


def local_folder(name: str) -> Path | None:
    """The folder of a local model; None for others.

    A folder may be named without ``local-dir:`` where it holds a model's configuration.
    """
    if name == "mini":
        return MINI
    if name.startswith(LOCAL):
        return Path(name.removeprefix(LOCAL))
    folder = Path(name)
    if name and (_is_file(folder / OPEN_CLIP_CONFIG) or _is_file(folder / TRANSFORMERS_CONFIG)):
        return folder
    return None


def absolute_name(name: str) -> str:
    """The same model, by a name that is valid in any working directory."""
    folder = local_folder(name)
    return name if folder is None or name == "mini" else f"{LOCAL}{folder.resolve()}"


def is_transformers(name: str) -> bool:
    """Whether a model is a checkpoint of transformers, and not of open_clip."""
    if name.startswith(TRANSFORMERS):
        return True
    folder = local_folder(name)
    if folder is None or _is_file(folder / OPEN_CLIP_CONFIG):
        return False
    return _is_file(folder / TRANSFORMERS_CONFIG)


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a name that is too long for a path, or holds a null character
        return False
