"""From a checkpoint file to an inverter: read, check, convert."""

from __future__ import annotations

from pathlib import Path

from fti_qdrant.model.importer.architecture import check_architecture, hyperparameters
from fti_qdrant.model.importer.contents import contents_of
from fti_qdrant.model.importer.convert import ExpectedBackbone, to_inverter
from fti_qdrant.model.importer.files import errors_name, read_checkpoint
from fti_qdrant.model.inverter import Inverter


def import_checkpoint(
    path: Path,
    *,
    expected: ExpectedBackbone | None = None,
    topk: int | None = None,
    epsilon: float | None = None,
) -> Inverter:
    """The authors' checkpoint as an inverter; no code in the file is run.

    Args:
        path: a whole pickled network, or a state dict of the same names.
        expected: the backbone that it is meant for; None takes the checkpoint's own sizes.
        topk: if the checkpoint does not state it; for a state dict the paper's is the default.
        epsilon: likewise.

    Raises:
        CheckpointError: missing, damaged, hostile, or another network.
        ModelMismatch: trained with a backbone of other sizes than the expected one.
    """
    loaded = read_checkpoint(path)
    with errors_name(path):
        contents = contents_of(loaded)
        constants = hyperparameters(contents, topk, epsilon)
        inverter = to_inverter(contents.tensors, constants, expected)
        check_architecture(contents)
        return inverter
