"""TargetPad, resize, crop and normalization, against the formulas written out again."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from fti_qdrant.images import Preprocess, preprocess, target_pad
from fti_qdrant.images.preprocess import center_crop, shorter_side

MEAN, STD = (0.48, 0.45, 0.40), (0.27, 0.26, 0.28)
SIDES = st.integers(1, 60)


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def padded_by_hand(image: Image.Image, ratio: float = 1.25) -> np.ndarray:
    """CLIP4Cir's TargetPad: black on both sides of the short axis, halves rounded down."""
    pixels = np.asarray(image)
    height, width = pixels.shape[:2]
    if max(width, height) / min(width, height) < ratio:
        return pixels
    scaled = max(width, height) / ratio
    across, down = max(int((scaled - width) / 2), 0), max(int((scaled - height) / 2), 0)
    canvas = np.zeros((height + 2 * down, width + 2 * across, 3), np.uint8)
    canvas[down : down + height, across : across + width] = pixels
    return canvas


@settings(max_examples=80, deadline=None)
@given(width=SIDES, height=SIDES)
def test_target_pad_is_clip4cirs(width: int, height: int) -> None:
    image = noise(width, height)
    np.testing.assert_array_equal(np.asarray(target_pad(image)), padded_by_hand(image))


@settings(max_examples=60, deadline=None)
@given(width=SIDES, height=SIDES)
def test_target_pad_reaches_the_ratio(width: int, height: int) -> None:
    across, down = target_pad(noise(width, height)).size
    assert max(across, down) == max(width, height)
    # a short side is up to two pixels short of it, as both halves are rounded down
    assert max(across, down) / (min(across, down) + 2) <= 1.25


def test_within_the_ratio_nothing_is_padded() -> None:
    image = noise(50, 40)
    assert target_pad(image) is image
    assert target_pad(noise(51, 40)).size == (51, 40)
    assert target_pad(noise(60, 40)).size == (60, 48)


@settings(max_examples=30, deadline=None)
@given(width=SIDES, height=SIDES, size=st.sampled_from([16, 32, 33]))
def test_pixels_against_pillow_alone(width: int, height: int, size: int) -> None:
    padded = Image.fromarray(padded_by_hand(noise(width, height)))
    short, long = min(padded.size), max(padded.size)
    scaled = int(size * long / short)
    wide = padded.size[0] >= padded.size[1]
    resized = padded.resize((scaled, size) if wide else (size, scaled), Image.Resampling.BICUBIC)
    left, top = (round((side - size) / 2) for side in resized.size)
    expected = np.asarray(resized.crop((left, top, left + size, top + size)))
    pixels = Preprocess(size, MEAN, STD).pixels(noise(width, height))
    assert pixels.dtype == np.uint8
    assert pixels.shape == (3, size, size)
    np.testing.assert_array_equal(pixels.transpose(1, 2, 0), expected)


def test_normalize_is_per_channel() -> None:
    pixels = torch.arange(256, dtype=torch.uint8).reshape(1, 1, 16, 16).repeat(2, 3, 1, 1)
    normalized = Preprocess(16, MEAN, STD).normalize(pixels)
    assert normalized.dtype == torch.float32
    values = np.arange(256).reshape(16, 16) / 255
    for channel, (mean, std) in enumerate(zip(MEAN, STD)):
        np.testing.assert_allclose(normalized[1, channel], (values - mean) / std, atol=1e-5)


def test_name_tells_what_changes_the_vectors() -> None:
    assert Preprocess(224, MEAN, STD).name == "targetpad-1.25/bicubic/center-crop-224"
    assert Preprocess(336, MEAN, STD).name != Preprocess(224, MEAN, STD).name


@pytest.mark.parametrize("size", [(1, 3_000_000), (3_000_000, 1), (5000, 3)])
def test_a_strip_does_not_become_a_gigantic_square(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preprocess, "MAX_RESIZED_PIXELS", 100_000)
    padded = target_pad(Image.new("RGB", size, "white"))
    assert 50_000 < padded.size[0] * padded.size[1] <= 100_000
    assert Preprocess(32, MEAN, STD).pixels(Image.new("RGB", size)).shape == (3, 32, 32)


def test_scaling_before_padding_looks_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    smooth = noise(5, 3).resize((600, 200), Image.Resampling.BICUBIC)
    plain = Preprocess(32, MEAN, STD).pixels(smooth).astype(float)
    monkeypatch.setattr(preprocess, "MAX_RESIZED_PIXELS", 600 * 480 // 4)
    scaled = Preprocess(32, MEAN, STD).pixels(smooth).astype(float)
    assert np.abs(plain - scaled).mean() < 3


@given(st.integers(1, 300), st.integers(1, 300), st.integers(1, 230))
@settings(deadline=None)
def test_scaling_and_cropping_are_torchvisions(width: int, height: int, size: int) -> None:
    from torchvision.transforms import InterpolationMode
    from torchvision.transforms import functional as transforms

    assume(max(width, height) <= 8 * min(width, height))
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = Image.fromarray(values)
    theirs = transforms.resize(image, size, InterpolationMode.BICUBIC)
    ours = shorter_side(image, size)
    np.testing.assert_array_equal(np.array(ours), np.array(theirs))
    cropped = transforms.center_crop(theirs, [size, size])
    np.testing.assert_array_equal(np.array(center_crop(ours, size)), np.array(cropped))
