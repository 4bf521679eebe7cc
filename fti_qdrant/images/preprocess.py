"""From an RGB picture to the pixels that a backbone takes, by one of three recipes.

``target-pad`` is FTI4CIR's, ``center-crop`` is CLIP's own, ``squash`` is SigLIP's.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import numpy as np
from PIL import Image, ImageOps

from fti_qdrant.errors import ModelMismatch
from fti_qdrant.images.recipes import RECIPES, Recipe

if TYPE_CHECKING:  # decoding workers do without torch, which takes seconds to load
    from torch import Tensor

Rounding = Literal["half-even", "down"]
"""Where a crop begins if the margins are odd: torchvision rounds to even, transformers down."""

TARGET_RATIO = 1.25
"""Aspect ratios beyond this are padded (the official code's ``target_ratio``)."""

MAX_RESIZED_PIXELS = 64_000_000
"""Limit while resizing: a strip of 1,000 x 64,000 would become 51,200 x 64,000 pixels, 13 GB."""

NAME = re.compile(
    r"(?P<pad>targetpad-1\.25/)?(?P<interpolation>[a-z]+)(-(?P<shorter>\d+))?"
    r"/(?P<end>center-crop|squash)-(?P<size>\d+)(?P<down>-down)?"
)


@dataclass(frozen=True)
class Preprocess:
    """How a picture becomes a square of pixels; then the backbone's own mean and std.

    - ``target-pad``: pad to an aspect ratio of 1.25 at most, then as ``center-crop``, bicubic.
    - ``center-crop``: resize the shorter side, cut out the middle. The ends of long pictures are
      lost.
    - ``squash``: resize to the square; nothing is lost, and the aspect ratio changes.

    Resizing yields bytes and normalization floats, as two steps: decoding workers send bytes, a
    quarter of the size, and the model's process normalizes a batch at once.

    Attributes:
        size: side of the square input, in pixels.
        mean, std: per channel, of values in 0..1.
        interpolation: Pillow's name of the filter, in lower case.
        shorter: length of the shorter side before a crop; 0 where it is ``size``.
        rounding: of a crop's margins.

    Example:
        >>> own = Preprocess(224, (0.5,) * 3, (0.5,) * 3, "center-crop", "bilinear")
        >>> own.name, own.by("target-pad").name
        ('bilinear/center-crop-224', 'targetpad-1.25/bicubic/center-crop-224')
    """

    size: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    recipe: Recipe = "target-pad"
    interpolation: str = "bicubic"
    shorter: int = 0
    rounding: Rounding = "half-even"

    @classmethod
    def for_decoding(cls, name: str) -> Preprocess:
        """The geometry of a fingerprint's ``preprocess``, without its backbone's mean and std.

        Enough to decode for a gallery before its model is loaded. Raises ModelMismatch where the
        name is of no known recipe.
        """
        unknown = ModelMismatch(f"unknown preprocessing {name!r}; update fti-qdrant")
        parts = NAME.fullmatch(name)
        if parts is None or parts["interpolation"] not in INTERPOLATIONS:
            raise unknown
        recipe: Recipe = "squash" if parts["end"] == "squash" else "center-crop"
        found = cls(
            int(parts["size"]),
            (0.0, 0.0, 0.0),
            (1.0, 1.0, 1.0),
            "target-pad" if parts["pad"] else recipe,
            parts["interpolation"],
            int(parts["shorter"] or 0),
            "down" if parts["down"] else "half-even",
        )
        if found.name != name:
            raise unknown
        return found

    @classmethod
    def if_known(cls, name: str) -> str | None:
        """The name of a gallery's preprocessing, to load its model with; None if it is unknown.

        The model then has its default, and the comparison of fingerprints names both.
        """
        try:
            return cls.for_decoding(name).name
        except ModelMismatch:
            return None

    @property
    def name(self) -> str:
        """Identifies the preprocessing inside the model fingerprint."""
        if self.recipe == "squash":
            return f"{self.interpolation}/squash-{self.size}"
        if self.recipe == "target-pad":
            return f"targetpad-{TARGET_RATIO}/bicubic/center-crop-{self.size}"
        shorter = f"-{self.shorter}" if self.shorter else ""
        down = "-down" if self.rounding == "down" else ""
        return f"{self.interpolation}{shorter}/center-crop-{self.size}{down}"

    @property
    def keeps_squares(self) -> bool:
        """Whether a picture that ``square`` has made passes it unchanged."""
        return self.shorter in (0, self.size)

    def by(self, wanted: str) -> Preprocess:
        """The same model's input, made by another recipe.

        Args:
            wanted: a recipe, or the name of a preprocessing as a fingerprint has it; size, mean
                and std stay the model's own.

        Raises ModelMismatch where there is no such recipe.
        """
        if wanted in RECIPES:
            return replace(self, recipe=wanted)
        if "/" not in wanted:
            raise ModelMismatch(f"unknown preprocessing {wanted!r}; use {', '.join(RECIPES)}")
        named = self.for_decoding(wanted)
        if named.recipe == "target-pad":
            return replace(self, recipe="target-pad")
        return replace(named, size=self.size, mean=self.mean, std=self.std)

    @property
    def unpadded(self) -> Preprocess:
        """As other tools prepare pictures for this model: none pads them as ``target-pad`` does."""
        return replace(self, recipe="center-crop") if self.recipe == "target-pad" else self

    def pixels(self, image: Image.Image) -> np.ndarray:
        """An RGB picture -> uint8 ``[3, size, size]``."""
        return np.ascontiguousarray(np.array(self.square(image)).transpose(2, 0, 1))

    def square(self, image: Image.Image) -> Image.Image:
        """An RGB picture -> the picture that the model sees."""
        if self.recipe == "target-pad":
            scaled = shorter_side(target_pad(image), self.size)
            return center_crop(scaled, self.size)
        resampling = INTERPOLATIONS[self.interpolation]
        if self.recipe == "squash":
            return image.resize((self.size, self.size), resampling)
        shorter = self.shorter or self.size
        scaled = shorter_side(middle(image, shorter), shorter, resampling)
        return center_crop(scaled, self.size, self.rounding)

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


INTERPOLATIONS = {filter.name.lower(): filter for filter in Image.Resampling}


def shorter_side(
    image: Image.Image, size: int, resampling: Image.Resampling = Image.Resampling.BICUBIC
) -> Image.Image:
    """Scales until the shorter side is ``size``.

    This and ``center_crop`` round as torchvision's transforms do. Importing torchvision would take
    longer than everything else that a decoding worker needs.
    """
    wanted = shorter_side_size(image.size, size)
    return image if wanted == image.size else image.resize(wanted, resampling)


def shorter_side_size(size: tuple[int, int], shorter: int) -> tuple[int, int]:
    """Width and height after scaling until the shorter one is ``shorter``."""
    width, height = size
    other = int(shorter * max(size) / min(size))
    return (shorter, other) if width <= height else (other, shorter)


def center_crop(image: Image.Image, size: int, rounding: Rounding = "half-even") -> Image.Image:
    """The middle ``size`` x ``size`` pixels of a picture that is at least that large."""
    width, height = image.size
    whole = math.floor if rounding == "down" else round
    left, top = whole((width - size) / 2), whole((height - size) / 2)
    return image.crop((left, top, left + size, top + size))


def middle(image: Image.Image, size: int) -> Image.Image:
    """The middle of a strip that would be too large once its shorter side is ``size``.

    All others are returned unchanged. What is cut off lies outside the center crop.
    """
    width, height = image.size
    short, long = min(width, height), max(width, height)
    if size * size * long / short <= MAX_RESIZED_PIXELS:
        return image
    kept = min(long, max(short, 8) * 16)
    start = (long - kept) // 2
    across = width >= height
    box = (start, 0, start + kept, height) if across else (0, start, width, start + kept)
    return image.crop(box)


def target_pad(image: Image.Image, ratio: float = TARGET_RATIO) -> Image.Image:
    """Pads the short sides with black until the aspect ratio is at most ``ratio``.

    Pictures within the ratio are returned unchanged. (CLIP4Cir's TargetPad, used by FTI4CIR.)
    Pictures that would get larger than ``MAX_RESIZED_PIXELS`` are scaled down first.
    """
    width, height = image.size
    if max(width, height) / min(width, height) <= ratio:
        return image
    shrink = math.sqrt(MAX_RESIZED_PIXELS / (max(width, height) ** 2 / ratio))
    if shrink < 1:
        width, height = max(1, int(width * shrink)), max(1, int(height * shrink))
        image = image.resize((width, height), Image.Resampling.BICUBIC)
    wanted = max(width, height) / ratio
    across = max(int((wanted - width) / 2), 0)
    down = max(int((wanted - height) / 2), 0)
    return ImageOps.expand(image, border=(across, down, across, down), fill=(0, 0, 0))
