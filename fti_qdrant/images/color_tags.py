"""Color spaces that a file names instead of embedding a profile, as profiles.

PNG's gamma, chromaticities and code points, the code points of HEIC, and the mark by which cameras
say Adobe RGB (DCF's "R03").
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import ExifTags, Image

Chromaticities = tuple[tuple[float, float], ...]
"""x and y of red, green, blue and white."""

D50 = np.array([0.9642, 1.0, 0.8249])
"""XYZ of the white that profiles refer to."""

BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)
"""XYZ to the responses of the eye, by which one white is adapted to another."""

D65 = (0.3127, 0.3290)
SRGB: Chromaticities = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06), D65)
ADOBE_RGB: Chromaticities = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06), D65)
DISPLAY_P3: Chromaticities = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060), D65)
BT2020: Chromaticities = ((0.708, 0.292), (0.170, 0.797), (0.131, 0.046), D65)

PRIMARIES = {1: SRGB, 9: BT2020, 12: DISPLAY_P3}
GAMMAS: dict[int, float | None] = {4: 2.2, 5: 2.8, 8: 1.0, 13: None}
"""Code points (ITU-T H.273) of colors, and of curves; None is sRGB's own. HDR has no equal here."""

USUAL_GAMMA = 2.2
"""What PNG's gamma is where it means sRGB."""

ADOBE_MARK = b"R03"


@dataclass(frozen=True)
class NamedSpace:
    """An RGB color space.

    Attributes:
        gamma: exponent of its curve; None for sRGB's.
    """

    colors: Chromaticities
    gamma: float | None

    def profile(self) -> bytes:
        """An ICC profile of it."""
        return _profile(self)


def tagged_profile(picture: Image.Image) -> bytes | None:
    """The profile of the color space that a picture's file names, or None for sRGB and nothing."""
    space = _by_codes(picture.info) or _by_png(picture.info) or _by_exif(picture)
    try:
        return space.profile() if space else None
    except (np.linalg.LinAlgError, struct.error, OverflowError):  # no colors span such a space
        return None


def _by_codes(info: Mapping[Any, Any]) -> NamedSpace | None:
    codes = info.get("cicp")
    nclx = info.get("nclx_profile")
    if codes is None and isinstance(nclx, dict):
        codes = (nclx.get("color_primaries"), nclx.get("transfer_characteristics"))
    if not isinstance(codes, tuple) or codes[0] not in PRIMARIES or codes[1] not in GAMMAS:
        return None
    return NamedSpace(PRIMARIES[codes[0]], GAMMAS[codes[1]])


def _by_png(info: Mapping[Any, Any]) -> NamedSpace | None:
    stored, points = info.get("gamma"), info.get("chromaticity")
    if "srgb" in info or not (stored or points):
        return None
    gamma = 1 / stored if isinstance(stored, float) and stored > 0 else USUAL_GAMMA
    colors = SRGB
    if isinstance(points, tuple) and len(points) == 8:
        white, *rest = zip(points[::2], points[1::2])
        colors = (*rest, white)
    near = np.abs(np.subtract(colors, SRGB)).max() < 0.01
    usual = abs(gamma - USUAL_GAMMA) < 0.1
    if (near and usual) or not 0.5 < gamma < 5 or np.min(colors) <= 0:
        return None
    return NamedSpace(SRGB if near else colors, None if usual else gamma)


def _by_exif(picture: Image.Image) -> NamedSpace | None:
    exif = picture.info.get("exif")
    if not isinstance(exif, bytes) or ADOBE_MARK not in exif:
        return None
    try:
        mark = picture.getexif().get_ifd(ExifTags.IFD.Interop).get(1)
    except Exception:  # broken in one of many ways
        return None
    return NamedSpace(ADOBE_RGB, 563 / 256) if str(mark).startswith("R03") else None


@lru_cache(maxsize=16)
def _profile(space: NamedSpace) -> bytes:
    tags = {
        name: b"XYZ \0\0\0\0" + b"".join(map(_number, column))
        for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), _to_xyz(space.colors).T)
    }
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), _curve(space.gamma))
    tags[b"wtpt"] = b"XYZ \0\0\0\0" + b"".join(map(_number, D50))
    at, table, body = 132 + 12 * len(tags), struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4xI", at + len(body), 0x04000000) + b"mntrRGB XYZ "
    header += bytes(12) + b"acsp" + bytes(28) + b"".join(map(_number, D50)) + bytes(48)
    return header + table + body


def _to_xyz(colors: Chromaticities) -> np.ndarray:
    """Linear RGB -> XYZ with a white of D50: ``[3, 3]``."""
    *primaries, white = (np.array([x / y, 1, (1 - x - y) / y]) for x, y in colors)
    columns = np.array(primaries).T
    columns = columns * np.linalg.solve(columns, white)
    adapted = np.diag((BRADFORD @ D50) / (BRADFORD @ white))
    return np.linalg.inv(BRADFORD) @ adapted @ BRADFORD @ columns


def _curve(gamma: float | None) -> bytes:
    if gamma is None:
        parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(_number, parameters))
    return b"para\0\0\0\0" + struct.pack(">HH", 0, 0) + _number(gamma)


def _number(value: float) -> bytes:
    return struct.pack(">i", round(float(value) * 65536))
