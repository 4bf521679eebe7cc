"""``fti-train import`` from end to end: file -> contents -> inverter -> folder."""

from __future__ import annotations

from pathlib import Path

from fti_qdrant.model.importer.convert import ExpectedBackbone
from fti_qdrant.model.importer.files import sha256
from fti_qdrant.model.importer.import_checkpoint import import_checkpoint
from fti_qdrant.model.inverter import Inverter
from fti_training.importer.backbone_sizes import sizes_of
from fti_training.importer.output import check_folder, write_folder


def convert_checkpoint(
    checkpoint: Path, backbone: str, *, topk: int | None = None, epsilon: float | None = None
) -> Inverter:
    """``import_checkpoint`` for a backbone by name; its weights are not needed.

    Raises:
        CheckpointError, ModelMismatch: see ``import_checkpoint``.
        UnsupportedModel: no such backbone.
    """
    expected = ExpectedBackbone(backbone, sizes_of(backbone))
    return import_checkpoint(checkpoint, expected=expected, topk=topk, epsilon=epsilon)


def import_inverter(
    checkpoint: Path,
    backbone: str,
    out: Path,
    *,
    topk: int | None = None,
    epsilon: float | None = None,
    force: bool = False,
) -> Inverter:
    """Converts, and writes the inverter and a record of its origin to a folder.

    Raises:
        CheckpointError, ModelMismatch, UnsupportedModel: see ``convert_checkpoint``; also where
            the folder is not empty, or cannot be written.
    """
    check_folder(out, force)
    inverter = convert_checkpoint(checkpoint, backbone, topk=topk, epsilon=epsilon)
    record = {
        "backbone": backbone,
        "imported_from": {"file": checkpoint.name, "sha256": sha256(checkpoint)},
    }
    write_folder(out, inverter, record, force)
    return inverter
