"""A perceptual hash: a picture that is re-encoded or resized keeps nearly the same 56 bytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from PIL import Image

SHAPE_DIGITS = 16
"""Hex digits of the perceptual hash's 64 bits."""

SHAPE_BITS_APART = 7
"""Different pictures differ in about 32 of the 64 bits, re-encoded ones seldom in more than 6."""

CELLS = 4
"""The colors are the means of so many by so many cells."""

COLORS_APART = 16
"""Levels of 255, in the cell and channel that differ most: JPEG at quality 30 moves none of 791
drawings by more than 13, and hues turned by 60 degrees move half of them by 29 and more."""


@dataclass(frozen=True)
class PerceptualHash:
    """Shape and colors. imagehash sees gray levels alone, by which red and blue shirts are alike.

    Attributes:
        shape: imagehash's 64 bits of the low frequencies of gray.
        colors: mean red, green and blue of each cell, row by row: ``CELLS * CELLS * 3`` bytes.
    """

    shape: int
    colors: bytes

    @classmethod
    def of(cls, picture: Image.Image) -> PerceptualHash:
        import imagehash
        from PIL import Image

        cells = picture.convert("RGB").resize((CELLS, CELLS), Image.Resampling.BOX)
        return cls(int(str(imagehash.phash(picture)), 16), cells.tobytes())

    @classmethod
    def read(cls, text: str) -> PerceptualHash:
        """Parses ``str(hash)``."""
        return cls(int(text[:SHAPE_DIGITS], 16), bytes.fromhex(text[SHAPE_DIGITS:]))

    def __str__(self) -> str:
        return f"{self.shape:0{SHAPE_DIGITS}x}{self.colors.hex()}"

    def bits_apart(self, other: PerceptualHash) -> int:
        return (self.shape ^ other.shape).bit_count()

    def is_like(self, other: PerceptualHash) -> bool:
        if self.bits_apart(other) > SHAPE_BITS_APART:
            return False
        mine, others = (np.frombuffer(one.colors, np.uint8).astype(int) for one in (self, other))
        return bool(np.abs(mine - others).max() <= COLORS_APART)
