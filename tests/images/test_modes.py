"""Every mode that Pillow has, against colors worked out by hand; EXIF; transparency."""

from __future__ import annotations

import colorsys
import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fti_qdrant.images import open_image, to_rgb

Array = np.ndarray

GRAYS = np.array([[0, 1, 77], [128, 200, 255]], np.uint8)
ALPHAS = np.array([[0, 255, 30], [128, 0, 255]], np.uint8)
COLORS = np.array(
    [[(255, 0, 0), (0, 200, 0), (0, 0, 90)], [(10, 20, 30), (255, 255, 255), (120, 60, 200)]],
    np.uint8,
)


def over_white(colors: Array, alphas: Array) -> Array:
    share = alphas[..., None] / 255
    return colors * share + 255 * (1 - share)


def as_colors(grays: Array) -> Array:
    return np.repeat(np.asarray(grays)[..., None], 3, axis=2)


def with_palette(mode: str, info: dict[str, Any] | None = None) -> Image.Image:
    """Pixels 0 to 5, and the six colors as the palette."""
    picture = Image.new("P", (3, 2))
    picture.putdata(list(range(6)))
    picture.putpalette(COLORS.tobytes())
    picture.info.update(info or {})
    if mode == "PA":
        picture = picture.convert("PA")
        picture.putalpha(Image.fromarray(ALPHAS))
    return picture


def with_rgba_palette() -> Image.Image:
    picture = Image.new("P", (3, 2))
    picture.putdata(list(range(6)))
    picture.putpalette(np.dstack([COLORS, ALPHAS]).tobytes(), "RGBA")
    return picture


def raw(mode: str, channels: Array) -> Image.Image:
    return Image.frombytes(mode, (3, 2), np.ascontiguousarray(channels).tobytes())


def cmyk() -> tuple[Image.Image, Array]:
    inks = np.dstack([COLORS, GRAYS])
    paper = (255.0 - COLORS) * (255.0 - GRAYS[..., None]) / 255
    return raw("CMYK", inks), paper


def ycbcr() -> tuple[Image.Image, Array]:
    y, cb, cr = 120.0, 100.0, 170.0
    rgb = (
        y + 1.402 * (cr - 128),
        y - 0.344136 * (cb - 128) - 0.714136 * (cr - 128),
        y + 1.772 * (cb - 128),
    )
    return Image.new("YCbCr", (3, 2), (120, 100, 170)), np.broadcast_to(rgb, (2, 3, 3))


def hsv() -> tuple[Image.Image, Array]:
    rgb = [
        [[255 * c for c in colorsys.hsv_to_rgb(*(x / 255 for x in pixel))] for pixel in row]
        for row in COLORS
    ]
    return raw("HSV", COLORS), np.array(rgb)


def lab() -> tuple[Image.Image, Array]:
    # neutral: L* of 0, 50 and 100 are the sRGB grays 0, 119 and 255, by the CIE's formula
    values = [(0, 128, 128), (128, 128, 128), (255, 128, 128)] * 2
    picture = Image.new("LAB", (3, 2))
    picture.putdata(values)
    return picture, as_colors(np.array([[0, 119, 255]] * 2))


def deep(mode: str, values: Array) -> Image.Image:
    kinds = {"I": "<i4", "F": "<f4", "I;16": "<u2", "I;16L": "<u2", "I;16B": ">u2", "I;16N": "=u2"}
    return raw(mode, np.asarray(values).astype(kinds[mode]))


SIXTEEN = np.array([[0, 257, 19789], [32896, 51400, 65535]])
"""The 8-bit grays times 257."""

CASES = {
    "1": (Image.fromarray(GRAYS > 100), as_colors(np.where(GRAYS > 100, 255, 0)), 0),
    "L": (Image.fromarray(GRAYS), as_colors(GRAYS), 0),
    "LA": (raw("LA", np.dstack([GRAYS, ALPHAS])), over_white(as_colors(GRAYS), ALPHAS), 1),
    "La": (
        raw("LA", np.dstack([GRAYS, ALPHAS])).convert("La"),
        over_white(as_colors(GRAYS), ALPHAS),
        3,
    ),
    "P": (with_palette("P"), COLORS, 0),
    "P, transparent entry": (
        with_palette("P", {"transparency": 2}),
        over_white(COLORS, np.array([[255, 255, 0], [255, 255, 255]])),
        0,
    ),
    "P, alpha for each entry": (
        with_palette("P", {"transparency": ALPHAS.tobytes()}),
        over_white(COLORS, ALPHAS),
        1,
    ),
    "P, RGBA palette": (with_rgba_palette(), over_white(COLORS, ALPHAS), 1),
    "PA": (with_palette("PA"), over_white(COLORS, ALPHAS), 1),
    "RGB": (Image.fromarray(COLORS), COLORS, 0),
    "RGBA": (raw("RGBA", np.dstack([COLORS, ALPHAS])), over_white(COLORS, ALPHAS), 1),
    "RGBa": (
        raw("RGBA", np.dstack([COLORS, ALPHAS])).convert("RGBa"),
        over_white(COLORS, ALPHAS),
        3,
    ),
    "RGBX": (raw("RGBX", np.dstack([COLORS, GRAYS])), COLORS, 0),
    "CMYK": (*cmyk(), 1),
    "YCbCr": (*ycbcr(), 2),
    "HSV": (*hsv(), 3),
    "LAB": (*lab(), 3),
    "I": (deep("I", GRAYS), as_colors(GRAYS), 0),
    "I, 16 bits": (deep("I", SIXTEEN), as_colors(GRAYS), 0),
    "I, out of range": (
        deep("I", [[-5, 0, 65535], [70000, 257, 2**31 - 1]]),
        as_colors([[0, 0, 255], [255, 1, 255]]),
        0,
    ),
    "F, 0 to 1": (deep("F", GRAYS / 255), as_colors(GRAYS), 0),
    "F, 0 to 255": (deep("F", GRAYS), as_colors(GRAYS), 0),
    "F, NaN and infinite": (
        deep("F", [[np.nan, 0.5, 1], [0, -np.inf, 1]]),
        as_colors([[0, 128, 255], [0, 0, 255]]),
        0,
    ),
    **{
        mode: (deep(mode, SIXTEEN), as_colors(GRAYS), 0)
        for mode in ("I;16", "I;16L", "I;16B", "I;16N")
    },
}


def test_no_mode_of_pillow_is_left_out() -> None:
    assert set(Image.MODES) <= {picture.mode for picture, _, _ in CASES.values()}


@pytest.mark.parametrize("name", CASES)
def test_mode_to_rgb(name: str) -> None:
    picture, expected, tolerance = CASES[name]
    before = picture.tobytes()
    rgb = open_image(picture).image
    assert (rgb.mode, rgb.size) == ("RGB", (3, 2))
    assert np.abs(np.asarray(rgb).astype(int) - np.round(expected)).max() <= tolerance
    assert picture.tobytes() == before, "the caller's picture has changed"


def test_transparent_color_of_an_rgb_picture() -> None:
    picture = Image.fromarray(COLORS)
    picture.info["transparency"] = tuple(COLORS[0, 1])
    expected = COLORS.copy()
    expected[0, 1] = 255
    np.testing.assert_array_equal(np.asarray(to_rgb(picture)), expected)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("PNG", "1"),
        ("PNG", "LA"),
        ("PNG", "P, alpha for each entry"),
        ("PNG", "RGBA"),
        ("PNG", "I;16"),
        ("TIFF", "CMYK"),
        ("TIFF", "F, 0 to 1"),
        ("TIFF", "I;16B"),
        ("TIFF", "LAB"),
        ("WEBP", "RGBA"),
    ],
)
def test_modes_through_a_file(kind: str, name: str) -> None:
    picture, expected, tolerance = CASES[name]
    buffer = io.BytesIO()
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    picture.save(buffer, kind, **options)
    rgb = np.asarray(open_image(buffer.getvalue()).image).astype(int)
    assert np.abs(rgb - np.round(expected)).max() <= tolerance


def test_16_bit_color_png() -> None:
    """Pillow cannot write one; it is put together here."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    rows = b"".join(b"\0" + (row.astype(">u2") * 257).tobytes() for row in COLORS)
    header = struct.pack(">IIBBBBB", 3, 2, 16, 2, 0, 0, 0)
    data = (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )
    np.testing.assert_array_equal(np.asarray(open_image(data).image), COLORS)


UPRIGHT = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}
"""What the EXIF standard says about each orientation, in numpy's words."""


@pytest.mark.parametrize("orientation", UPRIGHT)
@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "picture"])
def test_exif_orientation(orientation: int, kind: str) -> None:
    stored = Image.fromarray(COLORS)
    exif = Image.Exif()
    exif[0x0112] = orientation
    source: Any = stored
    if kind == "picture":
        stored.getexif()[0x0112] = orientation
    else:
        buffer = io.BytesIO()
        options = {"lossless": True} if kind == "WEBP" else {}
        stored.save(buffer, kind, exif=exif, **options)
        source = buffer.getvalue()
    got = np.asarray(open_image(source).image)
    np.testing.assert_array_equal(got, UPRIGHT[orientation](COLORS))


@pytest.mark.parametrize("exif", [b"Exif\0\0rubbish", b"Exif\0\0II*\0\xff\xff\xff\xff", b"x"])
def test_broken_exif_does_not_cost_the_picture(exif: bytes) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 9, 9)).save(buffer, "JPEG", exif=exif)
    assert open_image(buffer.getvalue()).image.getpixel((4, 4)) == (9, 9, 9)
