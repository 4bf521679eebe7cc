"""Large JPEGs are decoded at a part of their size: what is told of them and what a model sees."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fti_qdrant.errors import BadImage
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits, Preprocess, open_image
from fti_qdrant.images.color import to_rgb
from fti_qdrant.images.decoding import DRAFT_SIDE

ORIENTATION = 0x0112


def photo(width: int, height: int) -> Image.Image:
    """Smooth, with detail at every scale."""
    rng = np.random.default_rng(0)
    picture = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    values = np.asarray(picture.resize((width, height), Image.Resampling.BICUBIC), dtype=float)
    return Image.fromarray((values + rng.normal(0, 12, values.shape)).clip(0, 255).astype("u1"))


def encoded(picture: Image.Image, kind: str = "JPEG", orientation: int = 1) -> bytes:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    picture.save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("width", "height", "part"),
    [(4100, 3000, 2), (2100, 9000, 2), (2047, 3000, 1), (1000, 800, 1), (8400, 4200, 4)],
)
def test_both_sides_keep_enough(width: int, height: int, part: int) -> None:
    loaded = open_image(encoded(Image.new("RGB", (width, height))))
    assert loaded.size == (width, height)
    assert loaded.image.size == (-(-width // part), -(-height // part))
    assert min(loaded.image.size) >= min(DRAFT_SIDE, width, height)


def test_the_size_is_told_upright() -> None:
    loaded = open_image(encoded(Image.new("RGB", (4100, 3000)), orientation=6))
    assert loaded.size == (3000, 4100)
    assert loaded.image.size == (1500, 2050)


def test_other_kinds_are_decoded_whole() -> None:
    assert open_image(encoded(Image.new("L", (4100, 3000)), "PNG")).image.size == (4100, 3000)


def test_the_model_sees_nearly_the_same() -> None:
    data = encoded(photo(4100, 3000))
    preprocess = Preprocess(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    whole = preprocess.pixels(to_rgb(Image.open(io.BytesIO(data)))).astype(float)
    part = preprocess.pixels(open_image(data).image).astype(float)
    assert np.abs(whole - part).mean() < 1
    assert np.abs(whole - part).max() <= 8


# --- over the limit of pixels


@pytest.mark.parametrize(
    ("width", "height", "most", "part"),
    [
        (4000, 1000, 4_000_000, 1),
        (4000, 1000, 3_999_999, 2),
        (6000, 1900, 1_000_000, 4),
        (8000, 900, 2_000_000, 2),
        (4000, 3000, 1_000_000, 4),
    ],
)
def test_a_jpeg_over_the_limit_is_reduced_until_it_fits(
    width: int, height: int, most: int, part: int
) -> None:
    data = encoded(Image.new("RGB", (width, height), (200, 30, 40)))
    loaded = open_image(data, limits=ImageLimits(max_pixels=most))
    assert loaded.size == (width, height)
    assert loaded.image.size == (-(-width // part), -(-height // part))


def test_a_panorama_is_read_at_the_usual_limit() -> None:
    """70 million pixels of one color: more than the limit, and more than Pillow warns about."""
    data = encoded(Image.new("RGB", (60_000, 1200), (200, 30, 40)))
    loaded = open_image(data)
    assert loaded.size == (60_000, 1200)
    assert loaded.image.size == (30_000, 600)
    assert loaded.image.getpixel((100, 100)) == pytest.approx((200, 30, 40), abs=3)


def claiming(width: int, height: int, progressive: bool = False) -> bytes:
    """A small JPEG whose header says another size."""
    data = io.BytesIO()
    Image.new("L", (16, 16)).save(data, "JPEG", progressive=progressive)
    whole = bytearray(data.getvalue())
    at = whole.index(b"\xff\xc2" if progressive else b"\xff\xc0") + 5
    whole[at : at + 4] = height.to_bytes(2, "big") + width.to_bytes(2, "big")
    return bytes(whole)


@pytest.mark.parametrize(
    ("data", "most"),
    [
        (claiming(65_000, 65_000), "1,024,000,000"),
        (claiming(12_000, 11_000, progressive=True), "128,000,000"),
    ],
)
def test_more_than_reducing_helps_is_refused_unread(data: bytes, most: str) -> None:
    with pytest.raises(BadImage, match=f"is over the limit of {most}; scale it down, or raise"):
        open_image(data)


def test_a_strip_too_thin_to_be_reduced_is_refused() -> None:
    data = encoded(Image.new("RGB", (4000, 800)))
    with pytest.raises(BadImage, match="4000 x 800 pixels is over the limit of 3,000,000"):
        open_image(data, limits=ImageLimits(max_pixels=3_000_000))


def test_a_raised_limit_holds_beyond_pillows_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    data = encoded(Image.new("L", (100, 90)), "PNG")
    for limits in (ImageLimits(max_pixels=9000), DEFAULT_LIMITS):
        assert open_image(data, limits=limits).size == (100, 90)
    with pytest.raises(BadImage, match="over the limit of 8,999"):
        open_image(data, limits=ImageLimits(max_pixels=8999))
