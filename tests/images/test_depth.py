"""Samples of more or fewer than 8 bits: black and white are those that the file says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from fti_qdrant.images import open_image
from tests.images.files import chunk, png, tiff

GRAYS = np.array([[0, 1, 60, 77], [128, 200, 254, 255]])
"""As they are to come out."""
SHARES = GRAYS / 255
COLORS = np.stack([GRAYS, GRAYS[::-1], 255 - GRAYS], axis=-1)


def as_rgb(grays: np.ndarray) -> np.ndarray:
    return np.repeat(grays[..., None], 3, axis=2)


def sbit(*bits: int) -> bytes:
    return chunk(b"sBIT", bytes(bits))


def twelve(values: np.ndarray) -> np.ndarray:
    """Shares of white as 12 bits."""
    return (values * 4095).round().astype(np.uint16)


def pgm(values: np.ndarray, most: int) -> bytes:
    height, width = values.shape
    return f"P5\n{width} {height}\n{most}\n".encode() + values.astype(">u2").tobytes()


FLOATS = {339: (3, 3)}
SIGNED = {339: (3, 2)}
GRAY_FILES: dict[str, Any] = {
    "float TIFF, 0 to 65535": tiff((SHARES * 65535).astype("<f4"), 32, FLOATS),
    "float TIFF, 0 to 255": tiff(GRAYS.astype("<f4"), 32, FLOATS),
    "float TIFF, 0 to 1": tiff(SHARES.astype("<f4"), 32, FLOATS),
    "float TIFF, big-endian": tiff((SHARES * 65535).astype(">f4"), 32, FLOATS, ">"),
    "float TIFF that says 4095": tiff(
        (SHARES * 4095).astype("<f4"), 32, {**FLOATS, 340: (11, 0.0), 341: (11, 4095.0)}
    ),
    "float TIFF from -1 to 1": tiff(
        (SHARES * 2 - 1).astype("<f4"), 32, {**FLOATS, 340: (11, -1.0), 341: (11, 1.0)}
    ),
    "float TIFF, white is zero": tiff((1 - SHARES).astype("<f4"), 32, {**FLOATS, 262: (3, 0)}),
    "12 bits in a TIFF of 16 that says so": tiff(twelve(SHARES), 16, {281: (3, 4095)}),
    "the same by SMaxSampleValue": tiff(twelve(SHARES), 16, {341: (3, 4095)}),
    "the same big-endian": tiff(twelve(SHARES).astype(">u2"), 16, {281: (3, 4095)}, ">"),
    "10 bits above 64": tiff(
        (SHARES * 959 + 64).round().astype("<u2"), 16, {280: (3, 64), 281: (3, 1023)}
    ),
    "the same compressed": tiff(twelve(SHARES), 16, {281: (3, 4095)}, deflate=True),
    "TIFF of 12 bits": tiff(twelve(SHARES), 12),
    "TIFF of 16 bits": tiff((GRAYS * 257).astype("<u2"), 16),
    "TIFF of 16 bits, white is zero": tiff((65535 - GRAYS * 257).astype("<u2"), 16, {262: (3, 0)}),
    "TIFF of 16 bits, signed": tiff((SHARES * 32767).round().astype("<i2"), 16, SIGNED),
    "TIFF of 32 bits": tiff((SHARES * (2**31 - 1)).round().astype("<i4"), 32, SIGNED),
    "TIFF of 32 bits, 20 in use": tiff((SHARES * (2**20 - 1)).round().astype("<i4"), 32, SIGNED),
    "TIFF of 32 bits, 16 in use": tiff((GRAYS * 257).astype("<i4"), 32, SIGNED),
    "TIFF of 32 bits, 8 in use": tiff(GRAYS.astype("<i4"), 32, SIGNED),
    "PNG of 16 bits, 12 in use, right-aligned": png(twelve(SHARES), 16, 0, sbit(12)),
    "PNG of 16 bits, 12 in use, scaled up": png(
        twelve(SHARES) << 4 | twelve(SHARES) >> 8, 16, 0, sbit(12)
    ),
    "PNG of 16 bits, 10 in use, shifted up": png(
        (SHARES * 1023).round().astype(np.uint16) << 6, 16, 0, sbit(10)
    ),
    "PNG of 16 bits": png((GRAYS * 257).astype(np.uint16), 16, 0),
    "PGM to 4095": pgm(twelve(SHARES), 4095),
    "PGM to 1000": pgm((SHARES * 1000).round(), 1000),
    "PGM to 65535": pgm(GRAYS * 257, 65535),
    "array of 32-bit integers": Image.fromarray((SHARES * (2**31 - 1)).round().astype(np.int32)),
    "array of floats, 0 to 65535": Image.fromarray((SHARES * 65535).astype(np.float32)),
}


@pytest.mark.parametrize("name", GRAY_FILES)
def test_grays(name: str) -> None:
    rgb = np.asarray(open_image(GRAY_FILES[name]).image).astype(int)
    assert np.abs(rgb - as_rgb(GRAYS)).max() <= 1


def test_a_dark_picture_stays_dark_where_the_file_says_its_range() -> None:
    dark = np.full((2, 2), 200)
    for data, white in (
        (pgm(dark, 65535), 65535),
        (pgm(dark, 4095), 4095),
        (tiff(dark.astype("<u2"), 16), 65535),
        (tiff(dark.astype(np.uint16), 12), 4095),
        (tiff(dark.astype("<u2"), 16, {281: (3, 4095)}), 4095),
        (png(dark.astype(np.uint16), 16, 0), 65535),
    ):
        rgb = np.asarray(open_image(data).image)
        assert np.abs(rgb - 200 / white * 255).max() <= 1, white


def test_a_range_that_the_values_exceed_is_not_theirs() -> None:
    full = (GRAYS * 257).astype("<u2")
    floats = (SHARES * 65535).astype("<f4")
    for data in (
        tiff(full, 16, {281: (3, 255)}),
        tiff(floats, 32, {**FLOATS, 341: (11, 1.0)}),
        tiff(floats, 32, {**FLOATS, 340: (11, 9.0), 341: (11, 2.0)}),
        tiff(floats, 32, {**FLOATS, 341: (11, float("nan"))}),
        png(full, 16, 0, sbit(10)),
        png(full, 16, 0, sbit(16)),
        png(full, 16, 0, sbit(0)),
        png(full, 16, 0, sbit()),
    ):
        rgb = np.asarray(open_image(data).image).astype(int)
        assert np.abs(rgb - as_rgb(GRAYS)).max() <= 1


def test_floats_may_exceed_their_white() -> None:
    """Sharpening and resizing overshoot; a value for "no data" is far from all others."""
    for odd in (1.3, np.inf, 3.4e38):
        values = np.append(np.tile(SHARES, (4, 1)), [[odd, 1, 1, 1]], axis=0).astype(np.float32)
        rgb = np.asarray(open_image(Image.fromarray(values)).image).astype(int)
        assert np.abs(rgb[:2] - as_rgb(GRAYS)).max() <= 1
        assert (rgb[-1] == 255).all()


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(tiff(twelve(COLORS / 255), 16, {281: (3, [4095] * 3)}), id="TIFF"),
        pytest.param(
            tiff(twelve(COLORS / 255).astype(">u2"), 16, {281: (3, [4095] * 3)}, ">"),
            id="TIFF, big-endian",
        ),
        pytest.param(
            tiff(twelve(COLORS / 255), 16, {281: (3, [4095] * 3)}, deflate=True),
            id="TIFF, compressed",
        ),
        pytest.param(png(twelve(COLORS / 255), 16, 2, sbit(12, 12, 12)), id="PNG"),
        pytest.param(
            png(twelve(COLORS / 255) << 4 | twelve(COLORS / 255) >> 8, 16, 2, sbit(12, 12, 12)),
            id="PNG, scaled up",
        ),
        pytest.param(tiff((COLORS * 257).astype("<u2"), 16), id="TIFF of 16 bits"),
        pytest.param(
            b"P6\n4 2\n4095\n" + twelve(COLORS / 255).astype(">u2").tobytes(), id="PPM to 4095"
        ),
    ],
)
def test_deep_colors(data: bytes) -> None:
    rgb = np.asarray(open_image(data).image).astype(int)
    assert np.abs(rgb - COLORS).max() <= 1


# --- one color that is transparent

TRANSPARENT: dict[str, tuple[bytes, np.ndarray]] = {
    "16-bit gray": (
        png((GRAYS * 257).astype(np.uint16), 16, 0, chunk(b"tRNS", (60 * 257).to_bytes(2, "big"))),
        as_rgb(np.where(GRAYS == 60, 255, GRAYS)),
    ),
    "16-bit gray with 12 bits in use": (
        png(twelve(SHARES), 16, 0, sbit(12), chunk(b"tRNS", (964).to_bytes(2, "big"))),
        as_rgb(np.where(GRAYS == 60, 255, GRAYS)),
    ),
    "16-bit color": (
        png(
            np.array([[(0x1234, 0x5678, 0x9ABC), (0x3456, 0x5678, 0x9ABC)]]),
            *(16, 2),
            chunk(b"tRNS", bytes.fromhex("123456789abc")),
        ),
        np.array([[(255, 255, 255), (0x34, 0x57, 0x9B)]]),
    ),
    "8-bit gray": (
        png(GRAYS, 8, 0, chunk(b"tRNS", b"\0\x3c")),
        as_rgb(np.where(GRAYS == 60, 255, GRAYS)),
    ),
    "4-bit gray": (
        png(np.array([[0, 5, 10, 15]]), 4, 0, chunk(b"tRNS", b"\0\5")),
        as_rgb(np.array([[0, 255, 170, 255]])),
    ),
    "2-bit gray": (
        png(np.array([[0, 1, 2, 3]]), 2, 0, chunk(b"tRNS", b"\0\2")),
        as_rgb(np.array([[0, 85, 255, 255]])),
    ),
    "1-bit gray": (
        png(np.array([[0, 1, 0, 1]]), 1, 0, chunk(b"tRNS", b"\0\0")),
        as_rgb(np.array([[255, 255, 255, 255]])),
    ),
}


@pytest.mark.parametrize("name", TRANSPARENT)
def test_a_transparent_color_becomes_white(name: str) -> None:
    data, expected = TRANSPARENT[name]
    assert np.abs(np.asarray(open_image(data).image).astype(int) - expected).max() <= 1
