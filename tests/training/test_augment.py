"""Pictures that are changed a little before a step."""

from __future__ import annotations

import torch

from fti_training.augment import jittered


def test_each_picture_moves_by_itself_and_stays_white_outside() -> None:
    pixels = torch.full((6, 3, 64, 64), 255, dtype=torch.uint8)
    pixels[:, :, 24:40, 24:40] = 0
    moved = jittered(pixels, torch.Generator().manual_seed(0))
    again = jittered(pixels, torch.Generator().manual_seed(0))
    assert moved.dtype == torch.uint8
    assert torch.equal(moved, again)
    assert len({picture.numpy().tobytes() for picture in moved}) == 6
    assert (moved[:, :, 0] == 255).all()
    dark = (moved[:, 0] < 128).sum(dim=(1, 2)).float() / 256
    assert dark.min() > 0.7
    assert dark.max() < 1.45


def test_the_middle_of_a_picture_moves_by_at_most_a_sixteenth() -> None:
    pixels = torch.full((40, 3, 64, 64), 255, dtype=torch.uint8)
    pixels[:, :, 31:33, 31:33] = 0
    dark = 255 - jittered(pixels, torch.Generator().manual_seed(1))[:, 0].float()
    places = torch.arange(64).float()
    down = (dark.sum(dim=2) * places).sum(dim=1) / dark.sum(dim=(1, 2))
    across = (dark.sum(dim=1) * places).sum(dim=1) / dark.sum(dim=(1, 2))
    for center in (down, across):
        assert (center - 31.5).abs().max() < 5.5
        assert (center - 31.5).abs().max() > 2
