"""HEIC and AVIF: read where their decoder is there, and named where it is not."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from PIL import Image, features

from bench import profiles
from fti_qdrant.errors import BadImage
from fti_qdrant.images import decode_image, formats, open_image
from tests.images.files import encoded

SIZE = (96, 64)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    rng = np.random.default_rng(0)
    patches = Image.fromarray(rng.integers(30, 220, (3, 4, 3), dtype=np.uint8))
    return patches.resize(SIZE, Image.Resampling.BICUBIC)


def saved(picture: Image.Image, kind: str, **options: object) -> bytes:
    if kind == "HEIF":
        pytest.importorskip("pillow_heif").register_heif_opener()
    return encoded(picture, kind, quality=95, **options)


def distance(data: bytes, picture: Image.Image) -> float:
    got = np.asarray(open_image(data).image).astype(float)
    return float(np.abs(got - np.asarray(picture)).mean())


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
def test_pixels_colors_and_orientation(photo: Image.Image, kind: str) -> None:
    assert distance(saved(photo, kind), photo) < 4
    p3 = Image.fromarray(profiles.in_space(np.asarray(photo), profiles.DISPLAY_P3, None))
    profile = profiles.rgb_profile(profiles.DISPLAY_P3, None)
    assert distance(saved(p3, kind, icc_profile=profile), photo) < 4
    exif = Image.Exif()
    exif[0x0112] = 6
    loaded = open_image(saved(photo, kind, exif=exif.tobytes()))
    assert loaded.size == loaded.image.size == SIZE[::-1]
    assert distance(saved(photo.convert("RGBA"), kind), photo) < 4


def test_a_heic_with_exif_that_is_not_tiff(photo: Image.Image) -> None:
    exif = Image.Exif()
    exif[0x013B] = "an artist"
    data = saved(photo, "HEIF", exif=exif.tobytes())
    at = data.rindex(b"MM\0*")
    broken = data[:at] + b"rubb" + data[at + 4 :]
    assert distance(broken, photo) < 4


@pytest.mark.parametrize("kind", ["HEIF", "AVIF"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_truncated(photo: Image.Image, kind: str, share: float) -> None:
    data = saved(photo, kind)
    with pytest.raises(BadImage, match="truncated"):
        decode_image(data[: int(len(data) * share)])


def test_a_limit_of_pixels(photo: Image.Image) -> None:
    from fti_qdrant.images import ImageLimits

    for kind in ("HEIF", "AVIF"):
        with pytest.raises(BadImage, match="96 x 64 pixels is over the limit of 6,143"):
            decode_image(saved(photo, kind), limits=ImageLimits(max_pixels=6143))


def test_the_extra_is_named(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(photo, "HEIF")
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])
    monkeypatch.delitem(Image.OPEN, "HEIF")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    for brand in (b"heic", b"mif1"):  # a general brand comes with others
        with pytest.raises(BadImage, match=r"is a HEIC picture.*pip install 'fti-qdrant\[heif\]'"):
            decode_image(data[:8] + brand + data[12:])


def test_a_pillow_without_avif_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(features, "get_supported_modules", lambda: ["jpg"])
    assert "is an AVIF picture, which this Pillow" in formats.unreadable(b"\0\0\0\x1cftypavif")


def test_the_plugin_is_loaded_on_use(photo: Image.Image, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(photo, "HEIF")
    monkeypatch.setattr(Image, "ID", [kind for kind in Image.ID if kind != "HEIF"])
    monkeypatch.delitem(Image.OPEN, "HEIF")
    assert distance(data, photo) < 4
