"""Writes the folder of an imported inverter, completely or not at all."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from huggingface_hub.constants import CONFIG_NAME, SAFETENSORS_SINGLE_FILE

from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.importer.converted import RECORD_FILE
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import save_inverter

OUR_FILES = {CONFIG_NAME, SAFETENSORS_SINGLE_FILE, RECORD_FILE}


def check_folder(folder: Path, force: bool) -> None:
    """Raises CheckpointError where writing to a folder would lose something."""
    if folder.exists() and not folder.is_dir():
        raise CheckpointError(f"{str(folder)!r} is a file; pass a folder as --out")
    held = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if held - OUR_FILES:
        raise CheckpointError(
            f"{str(folder)!r} holds {min(held - OUR_FILES)!r}, which is not part of an inverter; "
            "pass a new folder as --out"
        )
    if held and not force:
        raise CheckpointError(
            f"{str(folder)!r} already holds an inverter; pass another folder, or --force to "
            "replace it"
        )


def write_folder(folder: Path, inverter: Inverter, record: dict[str, Any], force: bool) -> None:
    """Writes beside the folder, then moves into place.

    Raises:
        CheckpointError: see ``check_folder``; or the folder cannot be written.
    """
    try:
        check_folder(folder, force)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as beside:
            fresh = Path(beside) / "inverter"
            save_inverter(inverter, fresh)
            text = json.dumps(record, indent=2) + "\n"
            (fresh / RECORD_FILE).write_text(text, encoding="utf-8")
            _replace(folder, fresh, Path(beside) / "replaced")
    except OSError as error:
        raise CheckpointError(f"{str(folder)!r} cannot be written: {error}") from error


def _replace(folder: Path, fresh: Path, old: Path) -> None:
    """Moves ``fresh`` to ``folder``, and what was there to ``old``; undone if it fails."""
    if folder.exists():
        folder.rename(old)
    try:
        fresh.rename(folder)
    except OSError:
        if old.exists():
            old.rename(folder)
        raise
