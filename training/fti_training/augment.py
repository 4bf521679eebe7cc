"""Pictures changed a little before each step, so that no pixel is learned by heart."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MOST_TURN, MOST_ZOOM, MOST_SHIFT = math.radians(6), 0.15, 1 / 16
"""In radians, as a share of the size, as a share of the picture's side."""


def jittered(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Turns, scales and shifts each picture by itself; what comes into view is the border's color.

    Args:
        pixels: uint8 ``[B, 3, size, size]``.
        generator: decides; the same one gives the same pictures.
    """

    def draw(most: float) -> Tensor:
        return (torch.rand(len(pixels), generator=generator) * 2 - 1) * most

    turn, zoom = draw(MOST_TURN), 1 + draw(MOST_ZOOM)
    sine, cosine = turn.sin() * zoom, turn.cos() * zoom
    across, down = draw(2 * MOST_SHIFT), draw(2 * MOST_SHIFT)  # affine_grid's side is 2
    maps = torch.stack([cosine, -sine, across, sine, cosine, down], dim=1).view(-1, 2, 3)
    grid = F.affine_grid(maps, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(
        pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved.round().clamp(0, 255).to(torch.uint8)
