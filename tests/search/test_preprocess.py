"""Galleries made by another preprocessing than the inverter was trained with."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fti_ingest.engine.choose import EngineChoice
from fti_ingest.run.ingest import IngestJob, ingest
from fti_ingest.stages.embed import ModelChoice
from fti_qdrant import ComposedSearch, Composer
from fti_qdrant.errors import ModelMismatch
from fti_qdrant.gallery.location import EmbeddedLocation
from fti_qdrant.gallery.points import point_id
from fti_qdrant.images import open_image

TEXT = "in red"


@pytest.fixture(scope="module")
def panoramas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Long pictures, of which each recipe shows another part."""
    folder = tmp_path_factory.mktemp("panoramas")
    for number in range(4):
        rng = np.random.default_rng(number)
        patches = Image.fromarray(rng.integers(0, 256, (3, 9, 3), dtype=np.uint8))
        patches.resize((90, 30)).save(folder / f"{number}.png")
    return folder


@pytest.fixture(scope="module", params=["center-crop", "squash", "target-pad"])
def recipe(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def gallery(recipe: str, panoramas: Path, model: str, inverter: str, folder: Path) -> Path:
    """With stored pseudo-words, which are made by the inverter's own recipe."""
    path = folder / f"gallery-{recipe}"
    choice = ModelChoice(model, inverter, "fp32", "cpu", recipe)
    location = EmbeddedLocation(path)
    ingest(IngestJob(str(panoramas), location, choice, True, engine=EngineChoice("local")))
    return path


@pytest.fixture
def search(gallery: Path, inverter: str) -> Iterator[ComposedSearch]:
    with ComposedSearch.open(gallery, inverter=inverter, device="cpu", precision="fp32") as opened:
        yield opened


@pytest.fixture
def padded(model: str, inverter: str) -> Composer:
    """The same model by the inverter's recipe."""
    return Composer.load(model, inverter, device="cpu", precision="fp32", preprocess="target-pad")


def test_the_gallery_says_how_its_pictures_are_made(search: ComposedSearch, recipe: str) -> None:
    assert search.composer.backbone.preprocess.recipe == recipe
    assert (search.composer.word_preprocess is None) == (recipe == "target-pad")


def test_words_by_the_inverters_recipe_and_images_by_the_gallerys(
    search: ComposedSearch, padded: Composer, panoramas: Path, recipe: str
) -> None:
    path = panoramas / "1.png"
    backbone = search.composer.backbone
    image = open_image(path).image
    whole = search.compose(path, composer="image")
    pixels = backbone.preprocess.by(recipe).batch([image])
    expected = torch.nn.functional.normalize(backbone.pixel_features(pixels).pooled)
    np.testing.assert_allclose(whole.vector, expected[0].numpy(), atol=1e-5)
    composed = search.compose(path, TEXT, composer="fti")
    by_words = padded.compose([image], [TEXT], "fti")
    np.testing.assert_allclose(composed.vector, by_words[0].numpy(), atol=1e-5)
    direct = search.composer.compose([image], [TEXT], "fti")
    np.testing.assert_allclose(direct[0].numpy(), by_words[0].numpy(), atol=1e-5)


def test_stored_vectors_and_words_answer_as_the_picture_does(
    search: ComposedSearch, panoramas: Path
) -> None:
    for composer in ("image", "fti", "pdv"):
        by_id = search.compose(point_id("1.png"), TEXT, composer=composer)
        by_picture = search.compose(panoramas / "1.png", TEXT, composer=composer)
        np.testing.assert_allclose(by_id.vector, by_picture.vector, atol=3e-3)


def test_one_visual_pass_where_the_recipes_agree(
    search: ComposedSearch, panoramas: Path, recipe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = []
    once = search.composer.backbone.visual_pass
    monkeypatch.setattr(
        search.composer.backbone, "visual_pass", lambda x: (passes.append(len(x)), once(x))[1]
    )
    search.query_many(
        [
            {"image": panoramas / "0.png", "text": TEXT, "composer": "fti"},
            {"image": panoramas / "2.png", "text": TEXT, "composer": "sum"},
        ]
    )
    assert passes == ([2] if recipe == "target-pad" else [2, 1])


def test_features_of_another_recipe_are_not_taken_for_words(
    search: ComposedSearch, panoramas: Path, recipe: str
) -> None:
    image = open_image(panoramas / "0.png").image
    features = search.composer.backbone.image_features([image])
    if recipe == "target-pad":
        assert search.composer.references(features, (1,)).words is not None
        return
    with pytest.raises(ModelMismatch, match="trained on pictures preprocessed by targetpad"):
        search.composer.references(features, (1,))


def test_another_preprocessing_than_the_gallerys_is_refused(
    gallery: Path, panoramas: Path, recipe: str
) -> None:
    other = "squash" if recipe != "squash" else "center-crop"
    with pytest.raises(ModelMismatch, match=f"was made with .*{other}"):
        ComposedSearch.open(gallery, device="cpu", preprocess=other)
    job = IngestJob(str(panoramas), EmbeddedLocation(gallery))
    with pytest.raises(ModelMismatch, match=f"not with {other}; leave out --preprocess"):
        ingest(IngestJob(job.source, job.location, ModelChoice("", preprocess=other)))
    same = ModelChoice("", preprocess=recipe)
    assert ingest(IngestJob(job.source, job.location, same)).unchanged == 4


def test_an_unknown_recipe(gallery: Path) -> None:
    with pytest.raises(ModelMismatch, match="unknown preprocessing 'center_crop'; use target-pad"):
        ComposedSearch.open(gallery, device="cpu", preprocess="center_crop")
