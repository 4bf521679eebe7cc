"""A batch spread over processes: the loss and the gradients of the whole batch in one process."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch

from fti_qdrant.model.features import ImageFeatures
from fti_training.distributed import SingleProcess
from fti_training.split_caption import SplitCaption
from fti_training.step import InverterStep, Triplets, Weights
from tests.commands import start_command

ROWS = 11
CAPTIONS = [
    SplitCaption(f"dog number {row}", "a long tail " * (row % 4 + 1)) if row % 3 else None
    for row in range(ROWS)
]
"""Eleven rows: the parts are of different sizes, and hold different numbers of split captions."""

WORKER = "tests.training.one_of_a_group"


def triplets_of(rows: list[int], features: ImageFeatures) -> Triplets:
    """Composed queries of four of the rows; a third of three processes has none.

    Two of them have the same answer, and two the same question. Two pictures have no captions.
    """
    asked = [row for row in (0, 2, 5, 6) if row in rows]
    targets = [{6: 1}.get(row, row - 1) % ROWS for row in asked]
    others = [9, 10] if 9 in rows else []
    return Triplets(
        [rows.index(row) for row in asked],
        [f"in color {row}" for row in asked],
        features.pooled[targets],
        torch.tensor([row // 5 for row in asked], dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
        torch.tensor([*rows, *others]),
        features.take(others) if others else None,
    )


def one_process(backbone, inverter, features) -> tuple[dict[str, float], dict[str, torch.Tensor]]:
    step = InverterStep(backbone, inverter, Weights(triplet=0.7))
    loss = step(features, CAPTIONS, triplets=triplets_of(list(range(ROWS)), features))
    loss.total.backward()
    return loss.figures(), {name: one.grad for name, one in inverter.named_parameters()}


@pytest.mark.parametrize("size", [2, 3])
def test_loss_and_gradients_do_not_depend_on_the_number_of_processes(
    tiny_backbone, tiny_composer, tmp_path: Path, size: int
) -> None:
    inverter = copy.deepcopy(tiny_composer.inverter).requires_grad_(True).eval()
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 255, (ROWS, 3, 32, 32), generator=generator, dtype=torch.uint8)
    features = tiny_backbone.pixel_features(pixels)
    parts = [rows.tolist() for rows in torch.arange(ROWS).chunk(size)]
    triplets = [triplets_of(rows, features) for rows in parts]
    torch.save((tiny_backbone, inverter, features, CAPTIONS, triplets), tmp_path / "given.pt")
    workers = [start_command(WORKER, rank, size, tmp_path) for rank in range(size)]
    assert [worker.wait(120) for worker in workers] == [0] * size
    expected, gradients = one_process(tiny_backbone, inverter, features)
    for rank in range(size):
        log, found, votes = torch.load(tmp_path / f"{rank}.pt")
        assert votes == [True, False]  # one process is enough, and all of them know
        assert log == pytest.approx(expected, abs=1e-6, rel=1e-6)
        for name, gradient in gradients.items():
            torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-7, msg=name)


def test_a_single_process_changes_nothing() -> None:
    group, rows = SingleProcess(), torch.randn(3, 2)
    assert group.gather(rows) is rows
    assert group.mean_weight(3) == 1
    assert torch.equal(group.average(rows), rows)
    assert [group.any(True), group.any(False)] == [True, False]
