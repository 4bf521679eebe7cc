"""Loading and saving inverters."""

from __future__ import annotations

import io
import logging
from contextlib import redirect_stdout
from pathlib import Path

from fti_qdrant.errors import CheckpointError, FtiError, first_line
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_files import InverterFiles, find_inverter

logger = logging.getLogger(__name__)


def load_inverter(source: str, model: str | None = None) -> Inverter:
    """Loads an inverter, in evaluation mode, float32.

    Args:
        model: name of the backbone that it is meant for. A warning says where it was trained with
            another: the sizes may fit, and the pseudo-words mean nothing.
        source: a known inverter such as ``mini`` or ``fti4cir``; a folder that ``save_inverter``
            wrote; a checkpoint file of the authors' network (``.pth``, ``.pt``, safetensors); or
            ``ORG/REPO``, ``ORG/REPO@REVISION``, ``ORG/REPO@REVISION:FILE`` on the Hugging Face
            hub. A checkpoint is converted once, and none of its code is run (see
            ``importer.converted``). What exists on this machine goes before the hub.

    Raises:
        CheckpointError: not there, truncated, refused, or of other shapes.
        HubUnavailable: the hub cannot be reached, and its cache does not hold the inverter.
    """
    found = find_inverter(source)
    if model is not None:
        _warn_of_another_backbone(source, found, model)
    if found.path.is_dir():
        return load_folder(found.path, source)
    from fti_qdrant.model.importer.converted import load_converted

    try:
        return load_converted(found.path, found.origin)
    except CheckpointError as error:
        raise type(error)(f"inverter {source!r} cannot be loaded: {error}") from error


def load_folder(folder: Path, source: str | None = None) -> Inverter:
    """Loads what ``save_inverter`` wrote. Raises CheckpointError, which names ``source``."""
    name = source or str(folder)
    try:
        with redirect_stdout(io.StringIO()):  # the hub's mixin prints what it does
            return Inverter.from_pretrained(str(folder), strict=True).float().eval()
    except FtiError:
        raise
    except Exception as error:  # safetensors and torch each have their own
        reason = first_line(error)
        raise CheckpointError(f"inverter {name!r} cannot be loaded: {reason}") from error


def save_inverter(inverter: Inverter, folder: Path) -> None:
    """Writes safetensors and JSON, without the model card that the hub's mixin would add."""
    inverter.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)


def _warn_of_another_backbone(source: str, found: InverterFiles, model: str) -> None:
    if not found.backbones or model in found.backbones:
        return
    logger.warning(
        "inverter %r was trained with %s; with %s its pseudo-words may mean nothing",
        source,
        found.backbones[0],
        model,
    )
