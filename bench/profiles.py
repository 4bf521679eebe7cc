"""ICC profiles, written by hand, and the colors that they mean, from the CIE's formulas."""

from __future__ import annotations

import struct
from collections.abc import Callable

import numpy as np

Array = np.ndarray
Chromaticities = tuple[tuple[float, float], tuple[float, float], tuple[float, float]]

SRGB: Chromaticities = ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))
DISPLAY_P3: Chromaticities = ((0.680, 0.320), (0.265, 0.690), (0.150, 0.060))
ADOBE_RGB: Chromaticities = ((0.64, 0.33), (0.21, 0.71), (0.15, 0.06))
PROPHOTO: Chromaticities = ((0.7347, 0.2653), (0.1596, 0.8404), (0.0366, 0.0001))
D65, D50 = (0.3127, 0.3290), (0.3457, 0.3585)
BRADFORD = np.array(
    [[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]]
)


def xyz(x: float, y: float) -> Array:
    return np.array([x / y, 1, (1 - x - y) / y])


def to_xyz(primaries: Chromaticities, white: tuple[float, float] = D65) -> Array:
    """Linear RGB -> XYZ with a white of D50, as profiles store it: ``[3, 3]``."""
    columns = np.array([xyz(*one) for one in primaries]).T
    columns = columns * np.linalg.solve(columns, xyz(*white))
    shares = (BRADFORD @ xyz(*D50)) / (BRADFORD @ xyz(*white))
    return np.linalg.inv(BRADFORD) @ np.diag(shares) @ BRADFORD @ columns


def srgb_encoded(linear: Array) -> Array:
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


def srgb_linear(encoded: Array) -> Array:
    return np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)


def in_space(
    colors: Array, primaries: Chromaticities, gamma: float | None, white: tuple[float, float] = D65
) -> Array:
    """The uint8 values by which an RGB space stores sRGB colors ``[..., 3]``.

    Args:
        gamma: None for sRGB's curve.
    """
    linear = srgb_linear(colors / 255) @ to_xyz(SRGB).T @ np.linalg.inv(to_xyz(primaries, white)).T
    linear = np.clip(linear, 0, 1)
    encoded = srgb_encoded(linear) if gamma is None else linear ** (1 / gamma)
    return (encoded * 255).round().astype(np.uint8)


# --- the format


def number(value: float) -> bytes:
    return struct.pack(">i", round(value * 65536))


def xyz_tag(value: Array) -> bytes:
    return b"XYZ \0\0\0\0" + b"".join(map(number, value))


def curve(gamma: float | None) -> bytes:
    if gamma is None:
        parameters = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
        return b"para\0\0\0\0" + struct.pack(">HH", 3, 0) + b"".join(map(number, parameters))
    return b"curv\0\0\0\0" + struct.pack(">IH", 1, round(gamma * 256))


def profile(space: bytes, tags: dict[bytes, bytes], kind: bytes = b"mntr") -> bytes:
    title = b"made by a test\0"
    named = {
        b"desc": b"desc\0\0\0\0" + struct.pack(">I", len(title)) + title + bytes(78),
        b"cprt": b"text\0\0\0\0none\0",
        b"wtpt": xyz_tag(xyz(*D50)),
        **tags,
    }
    at, table, body = 132 + 12 * len(named), struct.pack(">I", len(named)), b""
    for name, data in named.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4sI", at + len(body), b"test", 0x02400000) + kind + space + b"XYZ "
    header += struct.pack(">6H", 2026, 1, 1, 0, 0, 0) + b"acsp" + bytes(28)
    header += b"".join(map(number, xyz(*D50))) + bytes(48)
    return header + table + body


def rgb_profile(
    primaries: Chromaticities, gamma: float | None, white: tuple[float, float] = D65
) -> bytes:
    matrix = to_xyz(primaries, white)
    colorants = {
        name: xyz_tag(column) for name, column in zip((b"rXYZ", b"gXYZ", b"bXYZ"), matrix.T)
    }
    curves = dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), curve(gamma))
    return profile(b"RGB ", {**colorants, **curves})


def gray_profile(gamma: float) -> bytes:
    return profile(b"GRAY", {b"kTRC": curve(gamma)})


def press_linear(inks: Array) -> Array:
    """What a made-up press prints: linear sRGB of ink shares ``[..., 4]``, with dot gain."""
    covered = np.clip(inks, 0, 1) ** 0.7
    tints = 1 - covered[..., :3] * np.array([0.95, 0.9, 0.97])
    return tints * (1 - 0.98 * covered[..., 3:])


def press_profile(linear: Callable[[Array], Array] = press_linear, nodes: int = 15) -> bytes:
    """The same as a table over all four inks."""
    steps = np.linspace(0, 1, nodes)
    grid = np.stack(np.meshgrid(*[steps] * 4, indexing="ij"), axis=-1).reshape(-1, 4)
    values = linear(grid) @ to_xyz(SRGB).T
    table = (np.clip(values, 0, 2) * 32768).round().astype(">u2")
    identity = np.array([0, 65535], ">u2").tobytes()
    body = b"mft2\0\0\0\0" + bytes([4, 3, nodes, 0]) + b"".join(map(number, np.eye(3).ravel()))
    body += struct.pack(">HH", 2, 2) + identity * 4 + table.tobytes() + identity * 3
    return profile(b"CMYK", {b"A2B0": body}, kind=b"prtr")
