"""From a checkpoint file to an inverter: read, check, convert."""

from __future__ import annotations

from pathlib import Path

from safetensors.torch import load_file

from fti_qdrant.model.importer.architecture import check_architecture, hyperparameters
from fti_qdrant.model.importer.contents import CheckpointContents, contents_of, unwrapped
from fti_qdrant.model.importer.convert import ExpectedBackbone, to_inverter
from fti_qdrant.model.importer.files import (
    errors_name,
    first_bytes,
    is_safetensors,
    read_checkpoint,
)
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
        path: a whole pickled network, or a state dict of the same names, pickled or in
            safetensors.
        expected: the backbone that it is meant for; None takes the checkpoint's own sizes.
        topk: if the checkpoint does not state it; for a state dict the paper's is the default.
        epsilon: likewise.

    Raises:
        CheckpointError: missing, damaged, hostile, or another network.
        ModelMismatch: trained with a backbone of other sizes than the expected one.
    """
    contents = read_contents(path)
    with errors_name(path):
        constants = hyperparameters(contents, topk, epsilon)
        inverter = to_inverter(contents.tensors, constants, expected)
        check_architecture(contents)
        return inverter


def read_contents(path: Path) -> CheckpointContents:
    """The tensors and modules of a checkpoint file. Raises CheckpointError."""
    if is_safetensors(first_bytes(path)):
        with errors_name(path):
            return CheckpointContents(unwrapped(load_file(path)))
    loaded = read_checkpoint(path)
    with errors_name(path):
        return contents_of(loaded)
