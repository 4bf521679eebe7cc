"""Converted checkpoints on disk: a checkpoint is converted once, and then loaded as safetensors.

The cache lies beside that of the Hugging Face hub (``HF_HOME``, ``HF_HUB_CACHE``), one folder for
each content of a checkpoint file, with a record of its source. Deleting it loses nothing.
"""

from __future__ import annotations

import json
import logging
from contextlib import suppress
from pathlib import Path

from filelock import FileLock
from huggingface_hub import constants

from fti_qdrant.atomic_files import replacing
from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.importer.files import sha256
from fti_qdrant.model.importer.import_checkpoint import import_checkpoint
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import load_folder, save_inverter

RECORD_FILE = "training.json"
"""States where the weights came from."""

FOLDER = Path("fti-qdrant") / "inverters"

FORMAT = 1
"""Goes up when a conversion changes, so that older ones are not used."""

logger = logging.getLogger(__name__)


def load_converted(checkpoint: Path, origin: dict[str, str] | None = None) -> Inverter:
    """The inverter of a checkpoint file, from the cache where it was converted before.

    A cache that is damaged or cannot be written costs time and nothing else.

    Args:
        origin: what the record states besides the file's name and hash.

    Raises CheckpointError: see ``import_checkpoint``.
    """
    digest = sha256(checkpoint)
    folder = cache_folder() / f"{digest}-{FORMAT}"
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):  # processes that start together convert it once
            with suppress(CheckpointError):
                if folder.is_dir():
                    return load_folder(folder)
            inverter = import_checkpoint(checkpoint)
            record = {
                "imported_from": {"file": checkpoint.name, "sha256": digest, **(origin or {})}
            }
            _write(folder, inverter, record)
            return inverter
    except OSError as error:
        logger.info("the converted inverter is not kept: %s", error)
        return import_checkpoint(checkpoint)


def cache_folder() -> Path:
    """The folder of all converted checkpoints."""
    return Path(constants.HF_HUB_CACHE).parent / FOLDER


def _write(folder: Path, inverter: Inverter, record: dict[str, dict[str, str]]) -> None:
    with replacing(folder) as part:
        save_inverter(inverter, part)
        (part / RECORD_FILE).write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
