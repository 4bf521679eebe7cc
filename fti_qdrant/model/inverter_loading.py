"""Loading and saving inverters, in a folder or a hub repository."""

from __future__ import annotations

import io
from contextlib import redirect_stdout
from pathlib import Path

from fti_qdrant.errors import CheckpointError, FtiError, first_line
from fti_qdrant.model.inverter import Inverter


def load_inverter(source: str) -> Inverter:
    """Loads what ``save_inverter`` wrote, in evaluation mode, float32.

    Raises CheckpointError: no such folder or repository, truncated, or of other shapes.
    """
    path = Path(source)
    if path.exists() and not (path / "config.json").is_file():
        raise CheckpointError(f"{source!r} has no config.json; pass a folder made by fti-train")
    try:
        with redirect_stdout(io.StringIO()):  # the hub's mixin prints what it does
            return Inverter.from_pretrained(source, strict=True).float().eval()
    except FtiError:
        raise
    except Exception as error:  # hub, safetensors and torch each have their own
        reason = first_line(error)
        raise CheckpointError(f"inverter {source!r} cannot be loaded: {reason}") from error


def save_inverter(inverter: Inverter, folder: Path) -> None:
    """Writes safetensors and JSON, without the model card that the hub's mixin would add."""
    inverter.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
