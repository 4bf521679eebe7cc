"""Each recipe against the library that it is named after, pixel by pixel, and its name."""

from __future__ import annotations

from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from fti_qdrant.errors import ModelMismatch
from fti_qdrant.images import Preprocess, preprocess
from fti_qdrant.images.recipes import RECIPES
from fti_qdrant.model.image_tower import preprocess_of

MEAN, STD = (0.48, 0.45, 0.40), (0.27, 0.26, 0.28)
SIDES = st.integers(1, 120)
SIZES = st.sampled_from([16, 33, 48])
INTERPOLATIONS = st.sampled_from(["bicubic", "bilinear"])


def noise(width: int, height: int) -> Image.Image:
    rng = np.random.default_rng(width * 1000 + height)
    return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))


def normalized(made: Preprocess, image: Image.Image) -> torch.Tensor:
    return made.normalize(made.batch([image]))[0]


class Tower:
    """What ``preprocess_of`` reads of an open_clip model."""

    def __init__(self, **config: Any):
        self.preprocess_cfg = {"size": 32, "mean": MEAN, "std": STD, **config}


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SIZES, INTERPOLATIONS, st.sampled_from(["shortest", "squash"]))
@example(35, 32, 32, "bicubic", "shortest")  # margins of 1.5 pixels
def test_open_clips_own_transform(
    width: int, height: int, size: int, interpolation: str, mode: str
) -> None:
    own: dict[str, Any] = {"interpolation": interpolation, "resize_mode": mode}
    theirs = open_clip.image_transform(size, False, MEAN, STD, **own)
    recipe = "squash" if mode == "squash" else "center-crop"
    ours = preprocess_of(Tower(size=(size, size), **own)).by(recipe)
    image = noise(width, height)
    torch.testing.assert_close(normalized(ours, image), theirs(image), rtol=0, atol=1e-6)


def processor(kind: Any, size: int, recipe: str, interpolation: str) -> Any:
    crop = {"height": size, "width": size}
    squash = recipe == "squash"
    return kind(
        size=crop if squash else {"shortest_edge": size},
        crop_size=crop,
        do_center_crop=not squash,
        resample=Image.Resampling[interpolation.upper()],
        image_mean=MEAN,
        image_std=STD,
    )


@settings(max_examples=60, deadline=None)
@given(SIDES, SIDES, SIZES, INTERPOLATIONS, st.sampled_from(["center-crop", "squash"]))
@example(35, 32, 32, "bicubic", "center-crop")
def test_transformers_own_processor(
    width: int, height: int, size: int, interpolation: str, recipe: Any
) -> None:
    ours = Preprocess(size, MEAN, STD, recipe, interpolation, rounding="down")
    image = noise(width, height)
    theirs = processor(CLIPImageProcessorPil, size, recipe, interpolation)
    [expected] = theirs(image, return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(normalized(ours, image), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("recipe", ["center-crop", "squash"])
@pytest.mark.parametrize("interpolation", ["bicubic", "bilinear"])
def test_transformers_processor_on_torchvision(recipe: Any, interpolation: str) -> None:
    """Its default since version 5 resizes by torchvision, which differs by a few of 255 levels."""
    ours = Preprocess(32, (0.0,) * 3, (1.0,) * 3, recipe, interpolation, rounding="down")
    theirs = processor(CLIPImageProcessor, 32, recipe, interpolation)
    for size in ((67, 50), (50, 67), (33, 40), (20, 31)):
        image = noise(*size).resize((size[0] * 3, size[1] * 3))
        [expected] = theirs(image, do_normalize=False, return_tensors="pt")["pixel_values"]
        off = (normalized(ours, image) - expected).abs() * 255
        assert off.max() < 4.1
        assert off.mean() < 0.5


def test_the_recipes_differ() -> None:
    image = noise(90, 40).resize((900, 400))
    base = Preprocess(32, MEAN, STD)
    made = [base.by(recipe).pixels(image).astype(int) for recipe in RECIPES]
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert np.abs(made[one] - made[other]).mean() > 5


def test_the_default_of_an_open_clip_model() -> None:
    cases = {
        "target-pad": [{}, {"resize_mode": "shortest", "interpolation": "bilinear"}],
        "squash": [{"resize_mode": "squash"}],
    }
    for recipe, configs in cases.items():
        for config in configs:
            assert preprocess_of(Tower(**config)).recipe == recipe
    assert preprocess_of(Tower(mean=0.5)).mean == (0.5, 0.5, 0.5)


MADE = [
    Preprocess(224, MEAN, STD),
    Preprocess(336, MEAN, STD, "center-crop"),
    Preprocess(256, MEAN, STD, "center-crop", "bilinear", 292),
    Preprocess(224, MEAN, STD, "center-crop", "lanczos", 256, "down"),
    Preprocess(224, MEAN, STD, "squash", "bilinear"),
]


@pytest.mark.parametrize("made", MADE, ids=lambda made: made.name)
def test_a_name_says_how_to_make_the_same_pixels(made: Preprocess) -> None:
    named = Preprocess.for_decoding(made.name)
    assert named.name == made.name
    image = noise(300, 700)
    assert (named.pixels(image) == made.pixels(image)).all()
    other = Preprocess(made.size, MEAN, STD, "squash", "hamming")
    assert other.by(made.name).name == made.name
    assert (other.by(made.name).mean, other.by(made.name).std) == (MEAN, STD)
    assert len({one.name for one in MADE}) == len(MADE)


def test_another_recipe_and_back_is_the_models_own() -> None:
    """A gallery made by target-pad does not change what the model's own center-crop is."""
    own = Preprocess(224, MEAN, STD, "center-crop", "bilinear", 256, "down")
    there = own.by("target-pad").by("targetpad-1.25/bicubic/center-crop-224")
    assert there.name == "targetpad-1.25/bicubic/center-crop-224"
    assert there.by("center-crop") == own


def test_a_name_keeps_the_size_of_the_model() -> None:
    assert Preprocess(336, MEAN, STD).by("bicubic/squash-224").name == "bicubic/squash-336"


@pytest.mark.parametrize(
    "name",
    [
        "resize",
        "center_crop",
        "",
        "bicubic/center-crop",
        "sinc/center-crop-224",
        "bicubic/center-crop-224/more",
        "targetpad-1.5/bicubic/center-crop-224",
        "targetpad-1.25/bilinear/center-crop-224",
        "bicubic/squash-224-down",
    ],
)
def test_unknown_names(name: str) -> None:
    with pytest.raises(ModelMismatch, match="unknown preprocessing"):
        Preprocess(224, MEAN, STD).by(name)
    with pytest.raises(ModelMismatch, match="update fti-qdrant"):
        Preprocess.for_decoding(name)


@pytest.mark.parametrize("size", [(1, 3_000_000), (3_000_000, 1), (9000, 3), (5, 4001)])
@pytest.mark.parametrize("recipe", ["center-crop", "squash"])
def test_a_strip_does_not_become_gigantic(
    size: tuple[int, int], recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The middle of a strip is the same whether the ends were cut off before or after."""
    width, height = size
    image = noise(width % 997 + 1, height % 997 + 1).resize(size, Image.Resampling.NEAREST)
    made = Preprocess(32, MEAN, STD, recipe)
    whole = made.pixels(image) if max(size) < 100_000 else None
    monkeypatch.setattr(preprocess, "MAX_RESIZED_PIXELS", 32 * 32 * 100)
    cut = made.pixels(image)
    assert cut.shape == (3, 32, 32)
    if whole is not None:
        assert np.abs(cut.astype(int) - whole.astype(int)).mean() < 40


@pytest.mark.parametrize(
    "name",
    [
        "targetpad-1.25/bicubic/center-crop-32",
        "bicubic/center-crop-32",
        "bilinear/center-crop-32-down",
        "bicubic/squash-32",
        "bicubic-36/center-crop-32",
    ],
)
def test_what_keeps_squares_changes_none(name: str, pictures: list[Image.Image]) -> None:
    """A picture that was scaled before it waited for the model has the same features."""
    recipe = Preprocess.for_decoding(name)
    assert recipe.name == name
    assert recipe.keeps_squares is ("-36/" not in name)
    for picture in pictures:
        once = recipe.square(picture)
        if recipe.keeps_squares:
            assert np.array_equal(recipe.pixels(once), recipe.pixels(picture))
