"""Large JPEGs are decoded at a part of their size: what is told of them and what a model sees."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fti_qdrant.images import Preprocess, open_image
from fti_qdrant.images.read import DRAFT_SIDE, to_rgb

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
    loaded = open_image(encoded(photo(width, height)))
    assert loaded.size == (width, height)
    assert loaded.image.size == (-(-width // part), -(-height // part))
    assert min(loaded.image.size) >= min(DRAFT_SIDE, width, height)


def test_the_size_is_told_upright() -> None:
    loaded = open_image(encoded(photo(4100, 3000), orientation=6))
    assert loaded.size == (3000, 4100)
    assert loaded.image.size == (1500, 2050)


def test_other_kinds_are_decoded_whole() -> None:
    assert open_image(encoded(photo(4100, 3000), "PNG")).image.size == (4100, 3000)


def test_the_model_sees_nearly_the_same() -> None:
    data = encoded(photo(4100, 3000))
    preprocess = Preprocess(224, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    whole = preprocess.pixels(to_rgb(Image.open(io.BytesIO(data)))).astype(float)
    part = preprocess.pixels(open_image(data).image).astype(float)
    assert np.abs(whole - part).mean() < 1
    assert np.abs(whole - part).max() <= 8
