"""From an RGB picture to the pixels that a backbone takes (TargetPad, as in the paper)."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageOps

from fti_qdrant.errors import ModelMismatch

if TYPE_CHECKING:  # decoding workers do without torch, which takes seconds to load
    from torch import Tensor

TARGET_RATIO = 1.25
"""Aspect ratios beyond this are padded (the official code's ``target_ratio``)."""

MAX_PADDED_PIXELS = 64_000_000
"""Limit after padding: a strip of 1,000 x 64,000 would become 51,200 x 64,000 pixels, 13 GB."""


@dataclass(frozen=True)
class Preprocess:
    """TargetPad 1.25, bicubic resize, center crop, then the backbone's own mean and std.

    Resizing yields bytes and normalization floats, as two steps: decoding workers send bytes, a
    quarter of the size, and the model's process normalizes a batch at once.

    Attributes:
        size: side of the square input, in pixels.
        mean, std: per channel, of values in 0..1.
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    @classmethod
    def for_decoding(cls, name: str) -> Preprocess:
        """The geometry of a fingerprint's ``preprocess``, without its backbone's mean and std.

        Enough to decode for a gallery before its model is loaded. Raises ModelMismatch where the
        name is of another recipe.
        """
        size = name.rpartition("-")[2]
        found = cls(int(size) if size.isdigit() else 0, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
        if found.name != name:
            raise ModelMismatch(f"unknown preprocessing {name!r}; update fti-qdrant")
        return found

    @property
    def name(self) -> str:
        """Identifies the preprocessing inside the model fingerprint."""
        return f"targetpad-{TARGET_RATIO}/bicubic/center-crop-{self.size}"

    def pixels(self, image: Image.Image) -> np.ndarray:
        """An RGB picture -> uint8 ``[3, size, size]``."""
        cropped = center_crop(shorter_side(target_pad(image), self.size), self.size)
        return np.ascontiguousarray(np.array(cropped).transpose(2, 0, 1))

    def batch(self, images: Iterable[Image.Image]) -> Tensor:
        """RGB pictures -> uint8 ``[B, 3, size, size]``."""
        import torch

        return torch.from_numpy(np.stack([self.pixels(image) for image in images]))

    def normalize(self, pixels: Tensor) -> Tensor:
        """uint8 ``[B, 3, size, size]`` -> float32 of the same shape."""
        import torch

        mean = torch.tensor(self.mean, device=pixels.device).view(3, 1, 1)
        std = torch.tensor(self.std, device=pixels.device).view(3, 1, 1)
        return (pixels.float() / 255 - mean) / std


def shorter_side(image: Image.Image, size: int) -> Image.Image:
    """Scales by bicubic interpolation until the shorter side is ``size``.

    This and ``center_crop`` round as torchvision's transforms do. Importing torchvision would take
    longer than everything else that a decoding worker needs.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    other = int(size * long / short)
    wanted = (size, other) if width <= height else (other, size)
    return image if wanted == image.size else image.resize(wanted, Image.Resampling.BICUBIC)


def center_crop(image: Image.Image, size: int) -> Image.Image:
    """The middle ``size`` x ``size`` pixels of a picture that is at least that large."""
    width, height = image.size
    left, top = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def target_pad(image: Image.Image, ratio: float = TARGET_RATIO) -> Image.Image:
    """Pads the short sides with black until the aspect ratio is at most ``ratio``.

    Pictures within the ratio are returned unchanged. (CLIP4Cir's TargetPad, used by FTI4CIR.)
    Pictures that would get larger than ``MAX_PADDED_PIXELS`` are scaled down first.
    """
    width, height = image.size
    if max(width, height) / min(width, height) <= ratio:
        return image
    shrink = math.sqrt(MAX_PADDED_PIXELS / (max(width, height) ** 2 / ratio))
    if shrink < 1:
        width, height = max(1, int(width * shrink)), max(1, int(height * shrink))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    wanted = max(width, height) / ratio
    across = max(int((wanted - width) / 2), 0)
    down = max(int((wanted - height) / 2), 0)
    return ImageOps.expand(image, border=(across, down, across, down), fill=(0, 0, 0))
