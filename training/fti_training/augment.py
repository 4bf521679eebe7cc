"""Small random changes of the pictures at each step, against overfitting."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_ROTATION, MAX_ZOOM, MAX_SHIFT = math.radians(6), 0.15, 1 / 16
"""In radians, as a share of the size, and as a share of the picture's side."""


def jittered(pixels: Tensor, generator: torch.Generator) -> Tensor:
    """Rotates, scales and shifts each picture independently; its border pixels fill the gaps.

    Args:
        pixels: uint8 ``[B, 3, size, size]``, on any device.
        generator: on the CPU; the same seed gives the same pictures.
    """

    def draw(limit: float) -> Tensor:
        return (torch.rand(len(pixels), generator=generator) * 2 - 1) * limit

    angle, zoom = draw(MAX_ROTATION), 1 + draw(MAX_ZOOM)
    sine, cosine = angle.sin() * zoom, angle.cos() * zoom
    across, down = draw(2 * MAX_SHIFT), draw(2 * MAX_SHIFT)  # affine_grid's side is 2
    maps = torch.stack([cosine, -sine, across, sine, cosine, down], dim=1).view(-1, 2, 3)
    maps = maps.to(pixels.device)
    grid = F.affine_grid(maps, list(pixels.shape), align_corners=False)
    moved = F.grid_sample(
        pixels.float(), grid, mode="bilinear", padding_mode="border", align_corners=False
    )
    return moved.round().clamp(0, 255).to(torch.uint8)
