"""Pictures of more or fewer than 8 bits for each sample -> 8 bits, by the range that the file says.

Pillow keeps deep grays as they are (and would clip them at 255), and of deep colors the high byte
alone.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from fti_qdrant.images.png import significant_bits

GRAY_MODES = ("I", "F", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of gray pictures with more than 8 bits."""

OVERSHOOT = 1.5
"""Floats may exceed their white by this factor, as they do after sharpening or resizing."""

FAR = 64
"""Values of more bits than 16 that exceed the middle one by this factor mean "no data" and the
like."""

MIN_SAMPLE, MAX_SAMPLE, SMIN_SAMPLE, SMAX_SAMPLE = 280, 281, 340, 341
BITS, PHOTOMETRIC, SAMPLE_FORMAT = 258, 262, 339
WHITE_IS_ZERO, SIGNED, FLOAT = 0, 2, 3
"""Tags of TIFF, and values of theirs."""

HALVES = {";16L": ";16B", ";16B": ";16L", ";16N": ";16B" if sys.byteorder == "little" else ";16L"}
"""How Pillow names the byte order of 16-bit samples, and what makes it read the other byte."""


@dataclass(frozen=True)
class Levels:
    """Sample values.

    Attributes:
        black, white: what becomes 0 and 255.
        step: where all values are multiples of it, these levels are not theirs.
    """

    black: float
    white: float
    step: int = 1

    def fit(self, values: np.ndarray) -> bool:
        """Whether these are the levels of the values, and not a mistake of who wrote the file."""
        inside = bool(values.max(initial=0) <= self.white)
        return inside and (self.step == 1 or bool((values % self.step).any()))


def file_levels(picture: Image.Image, data: bytes) -> Levels | None:
    """Black and white as a file says them; None where it says nothing beyond its mode.

    From TIFF's sample values and bits, PNG's significant bits, and PGM, which Pillow has scaled.

    Args:
        picture: opened from ``data``, loaded or not.
    """
    if picture.format == "PNG" and (bits := significant_bits(data)):
        # meant for samples scaled up to 16 bits, which end in zeros where they are dark; many
        # programs store them as they are
        return Levels(0, 2**bits - 1, step=2 ** (16 - bits))
    return _picture_levels(picture)


def gray_levels(picture: Image.Image, levels: Levels | None = None) -> Image.Image:
    """A picture of ``GRAY_MODES`` -> L, or LA where one gray is transparent.

    Args:
        levels: by default what the picture's tags say, else by its values: 16 bits, or the least of
            255 and 65535 (floats also 1) that holds them, or the brightest of them.
    """
    raw = np.asarray(picture)
    values = np.nan_to_num(raw.astype(np.float64), posinf=np.inf)
    levels = levels or _picture_levels(picture)
    if levels is None or not levels.fit(values):
        levels = _levels_of(values, picture.mode)
    share = (values - levels.black) / (levels.white - levels.black)
    if getattr(picture, "tag_v2", {}).get(PHOTOMETRIC) == WHITE_IS_ZERO:
        share = 1 - share
    gray = Image.fromarray((np.clip(share, 0, 1) * 255).round().astype(np.uint8))
    transparent = picture.info.get("transparency")
    if not isinstance(transparent, int):
        return gray
    gray = gray.convert("LA")
    gray.putalpha(Image.fromarray(np.where(raw == transparent, 0, 255).astype(np.uint8)))
    return gray


def deep_colors(picture: Image.Image, data: bytes, levels: Levels | None) -> Image.Image:
    """A picture that was loaded from 16-bit colors of fewer bits in use, from all of these bits.

    All others are returned as they are.

    Args:
        picture: loaded from ``data``.
        levels: ``file_levels``.
    """
    if levels is None or picture.mode not in ("RGB", "RGBA") or not 255 < levels.white < 32768:
        return picture
    low = Image.open(io.BytesIO(data))
    tiles = [tile._replace(args=_other_half(tile.args)) for tile in low.tile]
    if any(new.args == old.args for new, old in zip(tiles, low.tile)):
        return picture
    low.tile = tiles
    values = np.asarray(picture).astype(np.float64) * 256 + np.asarray(low)
    colors = values[..., :3]
    if not levels.fit(colors):
        return picture
    scaled = (np.clip(colors / levels.white, 0, 1) * 255).round().astype(np.uint8)
    if picture.mode == "RGBA":
        scaled = np.dstack([scaled, np.asarray(picture)[..., 3]])
    deep = Image.fromarray(scaled)
    deep.info = picture.info
    return deep


def scale_transparency(picture: Image.Image) -> None:
    """Gives a PNG's transparent color the depth of its pixels; Pillow leaves it as in the file.

    Args:
        picture: opened, and not loaded yet.
    """
    color = picture.info.get("transparency")
    kinds = [tile.args for tile in getattr(picture, "tile", [])]
    if isinstance(color, tuple) and "RGB;16B" in kinds:
        picture.info["transparency"] = tuple(one >> 8 for one in color)
    for bits in (2, 4):
        if isinstance(color, int) and f"L;{bits}" in kinds:
            picture.info["transparency"] = color * (255 // (2**bits - 1))


def _levels_of(values: np.ndarray, mode: str) -> Levels:
    if "16" in mode:
        return Levels(0, 65535)
    whites, over = ((1, 255, 65535), OVERSHOOT) if mode == "F" else ((255, 65535), 1)
    lit = values[np.isfinite(values) & (values > 0)]
    most = float(lit.max(initial=0.0))
    if most > whites[-1] * over:
        middle = float(np.quantile(lit, 0.5, method="lower"))
        usual = lit[lit <= middle * FAR].max()
        most = middle if usual < most and middle <= whites[-1] else usual
    return Levels(0, next((white for white in whites if most <= white * over), float(most)))


def _picture_levels(picture: Any) -> Levels | None:
    if picture.format == "PPM" and picture.mode == "I":
        return Levels(0, 65535)
    tags = getattr(picture, "tag_v2", None)
    if not tags or (bits := _first(tags.get(BITS), 8)) <= 8:
        return None
    kind = _first(tags.get(SAMPLE_FORMAT), 1)
    least, most = _first(tags.get(SMIN_SAMPLE)), _first(tags.get(SMAX_SAMPLE))
    if kind != FLOAT:
        least = _first(tags.get(MIN_SAMPLE)) if least is None else least
        most = _first(tags.get(MAX_SAMPLE)) if most is None else most
        if most is None and bits <= 16:
            most = 2 ** (bits - (kind == SIGNED)) - 1
    least = 0 if least is None else least
    if most is None or not np.isfinite([least, most]).all() or most <= least:
        return None
    return Levels(least, most)


def _first(value: Any, default: Any = None) -> Any:
    """TIFF stores one value for each channel, or one."""
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes)):
        value = value[0] if value else None
    return value if isinstance(value, (int, float)) else default


def _other_half(args: Any) -> Any:
    mode = args[0] if isinstance(args, tuple) else args
    for half, other in HALVES.items():
        if isinstance(mode, str) and mode in (f"RGB{half}", f"RGBA{half}"):
            mode = mode.replace(half, other)
            return (mode, *args[1:]) if isinstance(args, tuple) else mode
    return args
