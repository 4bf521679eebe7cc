"""``fti-train import`` from end to end: file -> contents -> inverter -> folder."""

from __future__ import annotations

from pathlib import Path

from fti_qdrant.model.inverter import Inverter
from fti_training.importer.architecture import check_architecture, hyperparameters
from fti_training.importer.backbone_sizes import sizes_of
from fti_training.importer.contents import contents_of
from fti_training.importer.convert import to_inverter
from fti_training.importer.files import errors_name, read_checkpoint, sha256
from fti_training.importer.output import check_folder, write_folder


def convert_checkpoint(
    checkpoint: Path, backbone: str, *, topk: int | None = None, epsilon: float | None = None
) -> Inverter:
    """The authors' checkpoint as an inverter; no code in the file is run.

    Args:
        checkpoint: a whole pickled network, or a state dict of the same names.
        backbone: name of the backbone that it was trained with.
        topk: if the checkpoint does not state it; for a state dict the paper's is the default.
        epsilon: likewise.

    Raises:
        CheckpointError: missing, damaged, hostile, or another network.
        ModelMismatch: trained with a backbone of other sizes.
        UnsupportedModel: no such backbone.
    """
    sizes = sizes_of(backbone)
    loaded = read_checkpoint(checkpoint)
    with errors_name(checkpoint):
        contents = contents_of(loaded)
        constants = hyperparameters(contents, topk, epsilon)
        check_architecture(contents)
        return to_inverter(contents.tensors, constants, sizes, backbone)


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
