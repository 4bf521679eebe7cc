"""Parts of pictures: against numpy slices, for every kind of source and every orientation."""

from __future__ import annotations

import io
import uuid
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from fti_qdrant.errors import BadImage
from fti_qdrant.images import Cropped, ImageLimits, content_hash, open_image

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (60, 80, 3), dtype=np.uint8)
BOX = (0.25, 0.5, 0.75, 1.0)
PART = PIXELS[30:60, 20:60]

fractions = st.floats(0, 1)


def png(pixels: np.ndarray = PIXELS) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["path", "text", "bytes", "file", "picture", "array"])
def test_every_source_can_be_cropped(tmp_path: Path, kind: str):
    path = tmp_path / "a.png"
    path.write_bytes(png())
    sources = {
        "path": path,
        "text": str(path),
        "bytes": png(),
        "file": io.BytesIO(png()),
        "picture": Image.fromarray(PIXELS),
        "array": PIXELS,
    }
    found = open_image(Cropped(sources[kind], BOX))
    assert np.array_equal(np.asarray(found.image), PART)
    assert found.size == (80, 60)  # of the whole picture
    assert found.crop == BOX


def test_a_crop_keeps_the_hash_of_its_picture_and_is_no_other_crop():
    whole, part = open_image(png()), open_image(Cropped(png(), BOX))
    assert whole.sha256 == part.sha256 == content_hash(Cropped(png(), BOX))
    identities = {whole.identity, part.identity, open_image(Cropped(png(), (0, 0, 1, 1))).identity}
    assert len(identities) == 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_edges_are_those_of_the_upright_picture(orientation: int):
    exif = Image.Exif()
    exif[0x0112] = orientation
    buffer = io.BytesIO()
    Image.fromarray(PIXELS).save(buffer, "PNG", exif=exif)
    upright = np.asarray(open_image(buffer.getvalue()).image)
    part = open_image(Cropped(buffer.getvalue(), BOX)).image
    height, width = upright.shape[:2]
    expected = upright[height // 2 :, width // 4 : width * 3 // 4]
    assert np.array_equal(np.asarray(part), expected)


@given(st.tuples(fractions, fractions, fractions, fractions), st.integers(1, 5000))
def test_there_is_always_a_pixel_and_never_one_outside(
    edges: tuple[float, float, float, float], width: int
):
    (left, right), (top, bottom) = sorted(edges[:2]), sorted(edges[2:])
    if left == right or top == bottom:
        with pytest.raises(BadImage, match="is empty"):
            Cropped(b"", (left, top, right, bottom))
        return
    height = 5001 - width
    x0, y0, x1, y1 = Cropped(b"", (left, top, right, bottom)).pixels((width, height))
    assert 0 <= x0 < x1 <= width
    assert 0 <= y0 < y1 <= height
    assert x0 <= left * width <= x1 or x0 == width - 1
    assert y1 >= bottom * height


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0, 0, 1.01, 1), "right must be from 0 to 1"),
        ((-0.1, 0, 1, 1), "left must be"),
        ((0, float("nan"), 1, 1), "top must be"),
        ((0, 0, 1, float("inf")), "bottom must be"),
        ((10, 20, 400, 300), "fractions of the picture's width"),
        ((0.5, 0, 0.5, 1), "is empty"),
        ((0, 0.9, 1, 0.1), "top less than bottom"),
        ((0, 0, 1), "four numbers"),
        ("0011", "four numbers"),
        (None, "four numbers"),
        ((True, 0, 1, 1), "left must be"),
        (("0", 0, 1, 1), "left must be"),
    ],
)
def test_what_is_no_part_of_a_picture_is_refused(box: object, words: str):
    with pytest.raises(BadImage, match=words):
        Cropped(b"", box)  # type: ignore[arg-type]


def test_edges_may_be_any_numbers():
    edges = np.array(BOX, np.float32)
    assert Cropped(b"", list(edges)) == Cropped(b"", tuple(map(float, BOX)))  # type: ignore[arg-type]
    assert hash(Cropped(b"", [0, 0, 1, 1]))  # type: ignore[arg-type]


def test_what_cannot_be_cropped_says_so():
    with pytest.raises(BadImage, match="cropped already"):
        Cropped(Cropped(b"", BOX), BOX)
    for id in (uuid.uuid4(), 42):
        with pytest.raises(BadImage, match="is the id of a stored image"):
            open_image(Cropped(id, BOX))
    with pytest.raises(BadImage, match="no such file"):
        open_image(Cropped("none.png", BOX))


def test_a_small_part_of_a_large_jpeg_keeps_its_detail():
    """The whole is decoded at a part of its size, where a small crop would be a blur."""
    wide = np.zeros((2400, 3200, 3), np.uint8)
    wide[1200:1260:2, 1600:1680] = 255  # stripes of one pixel
    buffer = io.BytesIO()
    Image.fromarray(wide).save(buffer, "JPEG", quality=95, subsampling=0)
    data = buffer.getvalue()
    assert open_image(data).image.size == (1600, 1200)
    part = open_image(Cropped(data, (0.5, 0.5, 0.525, 0.525)))
    assert part.image.size == (80, 60)
    rows = np.asarray(part.image.convert("L")).astype(int)[10:50, 10:70]
    assert np.abs(np.diff(rows, axis=0)).mean() > 200
    tight = ImageLimits(max_pixels=4_000_000)  # the limit stands, whatever is cropped
    assert open_image(Cropped(data, BOX), limits=tight).image.size == (800, 600)
