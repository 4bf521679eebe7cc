"""Embedded color profiles: the colors that they mean, worked out by the CIE's formulas."""

from __future__ import annotations

import io
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageCms

from bench import profiles
from fti_qdrant.images import Preprocess, decode, open_image
from fti_qdrant.images.color import srgb_transform
from fti_qdrant.model.backbone import Backbone
from tests.images.files import chunk, encoded, with_chunks, with_segments

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
P3 = profiles.rgb_profile(profiles.DISPLAY_P3, None)
ADOBE = profiles.rgb_profile(profiles.ADOBE_RGB, 2.2)
SPACES: dict[str, tuple[Any, float | None, Any]] = {
    "Display P3": (profiles.DISPLAY_P3, None, profiles.D65),
    "Adobe RGB": (profiles.ADOBE_RGB, 2.2, profiles.D65),
    "ProPhoto": (profiles.PROPHOTO, 1.8, profiles.D50),
    "linear sRGB": (profiles.SRGB, 1.0, profiles.D65),
}


@pytest.fixture(scope="module")
def photo() -> np.ndarray:
    """Smooth sRGB colors, ``[48, 64, 3]``."""
    rng = np.random.default_rng(0)
    patches = Image.fromarray(rng.integers(20, 236, (5, 7, 3), dtype=np.uint8))
    return np.asarray(patches.resize((64, 48), Image.Resampling.BICUBIC))


def distance(data: Any, expected: np.ndarray) -> float:
    """Mean difference in levels of 255."""
    return float(np.abs(np.asarray(open_image(data).image) - expected.astype(float)).mean())


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP", "JPEG", "AVIF"])
@pytest.mark.parametrize("space", SPACES)
def test_rgb_profiles_in_every_kind_of_file(photo: np.ndarray, space: str, kind: str) -> None:
    primaries, gamma, white = SPACES[space]
    stored = profiles.in_space(photo, primaries, gamma, white)
    options = {"WEBP": {"lossless": True}, "JPEG": {"quality": 98, "subsampling": 0}}
    options["AVIF"] = {"quality": 100, "subsampling": "4:4:4"}
    profile = profiles.rgb_profile(primaries, gamma, white)
    data = encoded(Image.fromarray(stored), kind, icc_profile=profile, **options.get(kind, {}))
    least = 2.5 if gamma == 1.0 else 1.5  # dark linear values have few levels
    assert distance(data, photo) < least
    assert np.abs(stored - photo.astype(float)).mean() > 2 * least, "the profile does something"


def test_a_picture_in_memory_is_converted_too(photo: np.ndarray) -> None:
    picture = Image.fromarray(profiles.in_space(photo, profiles.DISPLAY_P3, None))
    picture.info["icc_profile"] = P3
    assert distance(picture, photo) < 1
    assert picture.info["icc_profile"] == P3


@pytest.mark.parametrize("mode", ["P", "RGBA", "PA"])
def test_palettes_and_transparency(mode: str) -> None:
    colors = np.array([[(200, 30, 40), (20, 180, 90)], [(90, 80, 220), (128, 128, 128)]], np.uint8)
    alphas = np.array([[255, 128], [0, 255]], np.uint8)
    stored = Image.fromarray(profiles.in_space(colors, profiles.DISPLAY_P3, None))
    if mode == "P":
        stored, alphas = stored.quantize(4), np.full((2, 2), 255)
    else:
        stored.putalpha(Image.fromarray(alphas))
        stored = stored.convert("PA") if mode == "PA" else stored
    stored.info["icc_profile"] = P3
    share = alphas[..., None] / 255
    expected = colors * share + 255 * (1 - share)
    assert np.abs(np.asarray(open_image(stored).image) - expected).max() <= 9


@pytest.mark.parametrize("gamma", [1.0, 1.8, 2.6])
@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "1"])
def test_gray_profiles(mode: str, gamma: float) -> None:
    stored = np.arange(256, dtype=np.uint8)[None]
    if mode == "1":
        stored = np.array([[0, 255]], np.uint8)
    expected = profiles.srgb_encoded((stored / 255) ** gamma) * 255
    picture = Image.fromarray(stored)
    if mode == "LA":
        picture.putalpha(255)
    elif mode == "I;16":
        picture = Image.fromarray(stored.astype(np.uint16) * 257)
    elif mode == "1":
        picture = picture.convert("1")
    data = encoded(picture, icc_profile=profiles.gray_profile(gamma))
    got = np.asarray(open_image(data).image).astype(int)
    assert (got == got[..., :1]).all()
    assert np.abs(got[..., 0] - expected).max() <= 1.5


@pytest.mark.parametrize("kind", ["TIFF", "JPEG"])
def test_cmyk_by_the_profile_of_a_press(kind: str) -> None:
    rng = np.random.default_rng(1)
    inks = Image.fromarray(rng.integers(0, 200, (4, 5, 4), dtype=np.uint8), "CMYK")
    inks = inks.resize((40, 32), Image.Resampling.BICUBIC)
    if kind == "JPEG":  # stored inverted, as Adobe does
        inks = Image.open(io.BytesIO(encoded(inks, "JPEG", quality=98)))
    expected = profiles.srgb_encoded(profiles.press_linear(np.asarray(inks) / 255)) * 255
    profile = profiles.press_profile()
    assert distance(encoded(inks, kind, icc_profile=profile, quality=98), expected) < 2
    assert distance(encoded(inks, kind, quality=98), expected) > 20


def test_lab_with_its_profile_is_as_without() -> None:
    lab = Image.new("LAB", (3, 2))
    lab.putdata([(200, 150, 90), (100, 128, 128), (50, 120, 200)] * 2)
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    plain = np.asarray(open_image(encoded(lab, "TIFF")).image)
    assert distance(encoded(lab, "TIFF", icc_profile=profile), plain) < 1


@pytest.mark.parametrize("space", ["Display P3", "Adobe RGB"])
def test_the_model_sees_the_same_photo(
    photo: np.ndarray, tiny_backbone: Backbone, space: str
) -> None:
    primaries, gamma, white = SPACES[space]
    stored = Image.fromarray(profiles.in_space(photo, primaries, gamma, white))
    profile = profiles.rgb_profile(primaries, gamma, white)
    images = [
        open_image(encoded(stored, icc_profile=profile)).image,
        Image.fromarray(photo),
        Image.fromarray(np.asarray(stored)),
    ]
    vectors = tiny_backbone.image_features(images).pooled
    unit = vectors / vectors.norm(dim=1, keepdim=True)
    assert float(unit[0] @ unit[1]) > 0.9999
    assert float(unit[2] @ unit[1]) < float(unit[0] @ unit[1])


def test_colors_after_scaling_are_nearly_those_before(photo: np.ndarray) -> None:
    preprocess = Preprocess(32, (0, 0, 0), (1, 1, 1))
    picture = Image.fromarray(profiles.in_space(photo, profiles.DISPLAY_P3, None))
    data = encoded(picture, icc_profile=P3)
    decoded = decode(data)
    assert decoded.colors is not None
    late = decoded.prepared(preprocess.pixels).astype(int)
    early = preprocess.pixels(open_image(data).image).astype(int)
    assert late.shape == (3, 32, 32)
    assert np.abs(late - early).mean() < 0.5
    np.testing.assert_array_equal(decode(encoded(picture)).prepared(preprocess.pixels).dtype, "u1")


# --- color spaces that are named, not embedded


def chromaticities(primaries: profiles.Chromaticities) -> bytes:
    values = [profiles.D65, *primaries]
    return chunk(b"cHRM", struct.pack(">8I", *(round(x * 100_000) for xy in values for x in xy)))


def gamma(value: float) -> bytes:
    return chunk(b"gAMA", struct.pack(">I", round(value * 100_000)))


NAMED: dict[str, tuple[list[bytes], Any, float | None]] = {
    "linear": ([gamma(1.0)], profiles.SRGB, 1.0),
    "gamma 1.8": ([gamma(1 / 1.8)], profiles.SRGB, 1.8),
    "P3 by chromaticities": (
        [gamma(1 / 2.2), chromaticities(profiles.DISPLAY_P3)],
        profiles.DISPLAY_P3,
        None,
    ),
    "P3 by code points": ([chunk(b"cICP", bytes([12, 13, 0, 1]))], profiles.DISPLAY_P3, None),
    "code points before gamma": (
        [gamma(1.0), chunk(b"cICP", bytes([12, 13, 0, 1]))],
        profiles.DISPLAY_P3,
        None,
    ),
}


@pytest.mark.parametrize("name", NAMED)
def test_a_png_that_names_its_color_space(photo: np.ndarray, name: str) -> None:
    chunks, primaries, curve = NAMED[name]
    stored = profiles.in_space(photo, primaries, curve)
    data = with_chunks(encoded(Image.fromarray(stored)), *chunks)
    assert distance(data, photo) < (2.5 if curve == 1.0 else 1.5)
    assert distance(encoded(Image.fromarray(stored)), photo) > 4


@pytest.mark.parametrize(
    "chunks",
    [
        [gamma(1 / 2.2)],
        [gamma(0.45455), chromaticities(profiles.SRGB)],
        [gamma(1.0), chunk(b"sRGB", b"\0")],
        [chunk(b"cICP", bytes([1, 13, 0, 1]))],
        [chunk(b"cICP", bytes([9, 16, 0, 1]))],
        [chunk(b"cICP", bytes([200, 200, 200, 200]))],
        [gamma(0.0)],
        [gamma(40.0)],
        [chunk(b"cHRM", bytes(32))],
        [chunk(b"cHRM", b"\xff" * 32)],
    ],
)
def test_a_png_that_names_srgb_or_nonsense(photo: np.ndarray, chunks: list[bytes]) -> None:
    data = with_chunks(encoded(Image.fromarray(photo)), *chunks)
    assert distance(data, photo) <= 1


def interoperability(mark: str) -> bytes:
    exif = Image.Exif()
    exif[0x8769] = {0xA001: 65535, 0xA005: {1: mark, 2: b"0100"}}
    return exif.tobytes()


@pytest.mark.parametrize("kind", ["JPEG", "WEBP"])
def test_adobe_rgb_as_cameras_mark_it(photo: np.ndarray, kind: str) -> None:
    stored = Image.fromarray(profiles.in_space(photo, profiles.ADOBE_RGB, 563 / 256))
    options: dict[str, Any] = {"quality": 98, "subsampling": 0}
    options = {"lossless": True} if kind == "WEBP" else options
    assert distance(encoded(stored, kind, exif=interoperability("R03"), **options), photo) < 2
    as_stored = encoded(stored, kind, exif=interoperability("R98"), **options)
    assert distance(as_stored, np.asarray(stored)) < 2
    both = encoded(stored, kind, exif=interoperability("R03"), icc_profile=SRGB, **options)
    assert distance(both, np.asarray(stored)) < 2, "an embedded profile comes first"


# --- what is no reason to convert


def zero_colorants() -> bytes:
    tags = {name: profiles.xyz_tag(np.zeros(3)) for name in (b"rXYZ", b"gXYZ", b"bXYZ")}
    tags |= dict.fromkeys((b"rTRC", b"gTRC", b"bTRC"), profiles.curve(2.2))
    return profiles.profile(b"RGB ", tags)


BROKEN = {
    "nothing": b"",
    "noise": np.random.default_rng(0).bytes(600),
    "truncated": P3[: len(P3) // 2],
    "header only": P3[:128],
    "without curves": profiles.profile(b"RGB ", {}),
    "all black": zero_colorants(),
    "of a press": profiles.press_profile(nodes=3),
    "of grays": profiles.gray_profile(1.0),
    "a printer's without the way back": profiles.profile(b"RGB ", {}, kind=b"prtr"),
    "a link of devices": profiles.profile(b"RGB ", {}, kind=b"link"),
    "damaged tags": P3[:200] + bytes(60) + P3[260:],
}


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "TIFF", "WEBP", "AVIF"])
@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_or_foreign_profile_is_ignored(photo: np.ndarray, name: str, kind: str) -> None:
    picture = Image.fromarray(photo)
    plain = np.asarray(open_image(encoded(picture, kind)).image)
    got = open_image(encoded(picture, kind, icc_profile=BROKEN[name])).image
    if name == "damaged tags":  # may still be read, in part
        assert np.abs(np.asarray(got) - plain.astype(float)).mean() < 60
    else:
        np.testing.assert_array_equal(np.asarray(got), plain)


@pytest.mark.parametrize("mode", ["L", "CMYK", "LAB"])
def test_a_profile_for_other_pixels_is_ignored(mode: str) -> None:
    picture = Image.new(mode, (4, 4), 90 if mode == "L" else (90, 90, 90, 0)[: len(mode)])
    plain = np.asarray(open_image(encoded(picture, "TIFF")).image)
    got = open_image(encoded(picture, "TIFF", icc_profile=P3)).image
    np.testing.assert_array_equal(np.asarray(got), plain)


def test_profiles_that_the_container_damaged(photo: np.ndarray) -> None:
    plain = encoded(Image.fromarray(photo))
    jpeg = encoded(Image.fromarray(photo), "JPEG", quality=98)
    second_of_three = b"ICC_PROFILE\0\2\3" + P3
    bad = [
        with_chunks(plain, chunk(b"iCCP", b"name\0\0" + b"not zlib")),
        with_chunks(plain, chunk(b"iCCP", b"name\0\7" + zlib.compress(P3))),
        with_chunks(plain, chunk(b"iCCP", b"")),
        with_chunks(plain, chunk(b"iCCP", b"bomb\0\0" + zlib.compress(bytes(20_000_000)))),
        with_chunks(plain, chunk(b"tEXt", b"icc_profile\0text")),
        with_segments(jpeg, (0xE2, second_of_three)),
    ]
    for data in bad:
        assert distance(data, photo) < 2


def test_a_profile_over_a_megabyte_in_a_png_counts(photo: np.ndarray) -> None:
    large = profiles.rgb_profile(profiles.DISPLAY_P3, None)
    padded = large + np.random.default_rng(0).bytes(1_500_000)
    padded = struct.pack(">I", len(padded)) + padded[4:]
    stored = Image.fromarray(profiles.in_space(photo, profiles.DISPLAY_P3, None))
    assert distance(encoded(stored, icc_profile=padded), photo) < 1.5


@pytest.mark.parametrize("profile", [SRGB, profiles.rgb_profile(profiles.SRGB, None)])
def test_srgb_by_any_name_costs_nothing(photo: np.ndarray, profile: bytes) -> None:
    assert srgb_transform(profile, "RGB") is None
    data = encoded(Image.fromarray(photo), icc_profile=profile)
    np.testing.assert_array_equal(np.asarray(open_image(data).image), photo)


def test_threads_share_transforms(photo: np.ndarray) -> None:
    assert srgb_transform(P3, "RGB") is srgb_transform(bytes(P3), "RGB") is not None
    files = [
        encoded(Image.fromarray(photo), icc_profile=profile) for profile in (P3, ADOBE, SRGB) * 8
    ]
    alone = [open_image(data).image.tobytes() for data in files]
    with ThreadPoolExecutor(8) as pool:
        for _ in range(3):
            assert list(pool.map(lambda data: open_image(data).image.tobytes(), files)) == alone


def test_the_cache_of_transforms_is_bounded() -> None:
    from fti_qdrant.images import color

    for number in range(color.CACHED + 5):
        assert srgb_transform(profiles.gray_profile(1 + number / 100), "L") is not None
    assert len(color._transforms) <= color.CACHED
