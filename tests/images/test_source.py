"""Every way to hand over a picture, and every way in which it can be bad."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from fti_qdrant.errors import BadImage
from fti_qdrant.images import ImageLimits, content_hash, decode_image, open_image

PIXELS = np.random.default_rng(3).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


PNG = encoded(Image.fromarray(PIXELS))


def huge_png(width: int, height: int) -> bytes:
    """A few bytes that claim to be ``width x height`` pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    )


@pytest.fixture
def png(tmp_path: Path) -> Path:
    path = tmp_path / "picture.png"
    path.write_bytes(PNG)
    return path


@pytest.mark.parametrize(
    "source_of",
    [
        pytest.param(str, id="text path"),
        pytest.param(Path, id="path"),
        pytest.param(lambda path: path.read_bytes(), id="bytes"),
        pytest.param(lambda path: bytearray(path.read_bytes()), id="bytearray"),
        pytest.param(lambda path: memoryview(path.read_bytes()), id="memoryview"),
        pytest.param(lambda path: io.BytesIO(path.read_bytes()), id="file object"),
        pytest.param(lambda path: Image.open(path), id="picture"),
        pytest.param(lambda path: np.array(Image.open(path)), id="array"),
        pytest.param(lambda path: np.array(Image.open(path)) / np.float32(255), id="float array"),
    ],
)
def test_every_source_gives_the_same_pixels(png: Path, source_of: Callable[[Path], Any]) -> None:
    loaded = open_image(source_of(png))
    assert loaded.image.mode == "RGB"
    np.testing.assert_array_equal(np.asarray(loaded.image), PIXELS)
    assert content_hash(source_of(png)) == loaded.sha256


def test_a_hash_decodes_nothing_and_has_the_same_limits(tmp_path: Path) -> None:
    assert content_hash(b"not an image") == hashlib.sha256(b"not an image").hexdigest()
    small = ImageLimits(max_bytes=10)
    for source, reason in (
        (b"", "the file is empty"),
        (PNG, "over the limit"),
        (tmp_path / "missing.png", "no such file"),
        (tmp_path, "is a directory"),
        ("http://127.0.0.1/a.png", "allow_urls=True"),
    ):
        with pytest.raises(BadImage, match=reason):
            content_hash(source, limits=small)


def test_open_file_is_read_and_left_open(png: Path) -> None:
    with png.open("rb") as file:
        np.testing.assert_array_equal(np.asarray(open_image(file).image), PIXELS)
        assert not file.closed


def test_hash_is_of_the_bytes_whatever_the_name(png: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy.png"
    copy.write_bytes(PNG)
    expected = hashlib.sha256(PNG).hexdigest()
    assert [open_image(one).sha256 for one in (png, copy, PNG)] == [expected] * 3
    assert [open_image(one).uri for one in (str(png), copy, PNG)] == [str(png), str(copy), None]


def test_hash_of_pixels_tells_shapes_apart() -> None:
    flat = np.zeros((2, 8, 3), np.uint8)
    hashes = {open_image(flat.reshape(shape)).sha256 for shape in [(2, 8, 3), (8, 2, 3), (4, 4, 3)]}
    assert len(hashes) == 3
    assert open_image(flat).sha256 == open_image(Image.fromarray(flat)).sha256


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "green", "blue")]
    gif = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=10)
    assert open_image(gif).image.getpixel((1, 1)) == (255, 0, 0)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "GIF"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_truncated_files(tmp_path: Path, kind: str, share: float) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    data = encoded(Image.fromarray(noise), kind)
    path = tmp_path / f"truncated.{kind.lower()}"
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(BadImage, match=rf"truncated\.{kind.lower()}"):
        open_image(path)


def test_bad_files_are_named(tmp_path: Path) -> None:
    text = tmp_path / "text.jpg"
    text.write_text("this is not a picture")
    empty = tmp_path / "empty.png"
    empty.touch()
    cases = {
        str(tmp_path / "missing.jpg"): "no such file",
        str(tmp_path): "is a directory",
        str(text): "not an image",
        str(empty): "0 bytes",
        "x" * 5000: "cannot be read",
        "nul\0byte.jpg": "cannot be read",
        str(text / "below-a-file.jpg"): "cannot be read",
        "": "is a directory",
    }
    for source, reason in cases.items():
        with pytest.raises(BadImage, match=reason) as caught:
            open_image(source)
        assert repr(source or ".") in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything"
)
def test_unreadable_file(png: Path) -> None:
    png.chmod(0)
    with pytest.raises(BadImage, match="cannot be read"):
        open_image(png)


@pytest.mark.parametrize("size", [(30_000, 30_000), (9_000, 9_000), (60_000, 2_000)])
def test_bombs_are_refused_before_they_are_decoded(size: tuple[int, int]) -> None:
    bomb = huge_png(*size)
    assert len(bomb) < 200
    with pytest.raises(BadImage, match="over the limit of 64,000,000"):
        open_image(bomb)


def test_limits_can_be_changed(png: Path) -> None:
    pixels, size = PIXELS.shape[0] * PIXELS.shape[1], len(PNG)
    open_image(png, limits=ImageLimits(max_bytes=size, max_pixels=pixels))
    for source in (png, PNG, io.BytesIO(PNG)):
        with pytest.raises(BadImage, match=f"over the limit of {size - 1} bytes"):
            open_image(source, limits=ImageLimits(max_bytes=size - 1))
    for source in (png, PNG, Image.fromarray(PIXELS), PIXELS):
        with pytest.raises(BadImage, match=f"over the limit of {pixels - 1}"):
            open_image(source, limits=ImageLimits(max_pixels=pixels - 1))


def test_a_large_file_is_read_no_further_than_the_limit() -> None:
    class Endless(io.RawIOBase):
        asked = 0

        def read(self, size: int = -1) -> bytes:
            self.asked += size
            return bytes(size)

    endless = Endless()
    with pytest.raises(BadImage, match="over the limit of 1,000 bytes"):
        open_image(endless, limits=ImageLimits(max_bytes=1000))  # type: ignore[arg-type]
    assert endless.asked == 1001


@pytest.mark.parametrize("source", [None, 5, 1.5, True, ["a.jpg"], {"path": "a.jpg"}, object()])
def test_wrong_types(source: Any) -> None:
    with pytest.raises(BadImage, match=f"cannot be a {type(source).__name__}"):
        open_image(source)


def test_wrong_file_objects(tmp_path: Path) -> None:
    closed = io.BytesIO(PNG)
    closed.close()
    with pytest.raises(BadImage, match="closed"):
        open_image(closed)
    with pytest.raises(BadImage, match="open it as 'rb'"):
        open_image(io.StringIO("text"))  # type: ignore[arg-type]
    with (tmp_path / "out").open("wb") as write_only, pytest.raises(BadImage, match="read"):
        open_image(write_only)  # type: ignore[arg-type]


def test_lazy_picture_of_a_truncated_file(tmp_path: Path) -> None:
    path = tmp_path / "cut.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    path.write_bytes(encoded(Image.fromarray(noise), "JPEG")[:1500])
    with Image.open(path) as lazy, pytest.raises(BadImage, match="truncated"):
        open_image(lazy)


@settings(max_examples=60, deadline=None)
@given(
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    channels=st.sampled_from([None, 1, 3, 4]),
    floats=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_arrays_keep_their_pixels(
    height: int, width: int, channels: int | None, floats: bool, seed: int
) -> None:
    shape = (height, width) if channels is None else (height, width, channels)
    bytes_ = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    picture = open_image(bytes_.astype(np.float64) / 255 if floats else bytes_).image
    assert picture.size == (width, height)
    assert picture.mode == "RGB"
    got = np.asarray(picture).astype(int)
    if channels in (None, 1):
        expected = np.repeat(bytes_.reshape(height, width, 1), 3, axis=2).astype(int)
    elif channels == 3:
        expected = bytes_.astype(int)
    else:
        alpha = bytes_[..., 3:] / 255
        expected = bytes_[..., :3] * alpha + 255 * (1 - alpha)
    assert np.abs(got - expected).max() <= (1 if channels == 4 else 0)


@settings(max_examples=60, deadline=None)
@given(
    shape=st.lists(st.integers(0, 5), max_size=4),
    dtype=st.sampled_from(["uint8", "int64", "uint16", "bool", "complex64", "float32", "U3", "O"]),
)
def test_arrays_that_are_no_pictures(shape: list[int], dtype: str) -> None:
    is_picture = dtype in ("uint8", "float32") and (
        len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3, 4))
    )
    array = np.zeros(shape, dtype=dtype)
    if is_picture and array.size:
        assert open_image(array).image.size == (shape[1], shape[0])
    else:
        with pytest.raises(BadImage, match="is not a picture"):
            open_image(array)


@pytest.mark.parametrize("value", [np.nan, np.inf, -0.01, 1.01, 255.0])
def test_float_arrays_must_be_in_0_to_1(value: float) -> None:
    array = np.zeros((3, 3, 3))
    array[1, 1, 1] = value
    with pytest.raises(BadImage, match=r"finite values in 0\.\.1"):
        open_image(array)


@settings(max_examples=80, deadline=None)
@given(
    kind=st.sampled_from(["PNG", "JPEG", "GIF", "WEBP", "BMP", "TIFF", "PPM"]),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=6),
)
def test_damaged_bytes_decode_or_raise_bad_image(
    kind: str, changes: list[tuple[float, int]]
) -> None:
    data = bytearray(encoded(Image.fromarray(PIXELS), kind))
    for place, value in changes:
        data[int(place * (len(data) - 1))] = value
    mode = "RGB"
    with contextlib.suppress(BadImage):  # and nothing else
        mode = decode_image(bytes(data), limits=ImageLimits(max_pixels=100_000)).image.mode
    assert mode == "RGB"


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=60))
def test_any_bytes_raise_bad_image(data: bytes) -> None:
    with pytest.raises(BadImage):
        decode_image(data)


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    pipe = tmp_path / "picture.jpg"
    os.mkfifo(pipe)
    for source in (pipe, "/dev/zero"):
        with pytest.raises(BadImage, match="a pipe or a device, not a file"):
            open_image(source)
