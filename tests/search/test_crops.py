"""Parts of pictures as references: against the same parts cut out beforehand."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fti_qdrant import ComposedSearch, Cropped
from fti_qdrant.errors import BadImage, UnknownImageId
from fti_qdrant.gallery import GalleryPoint, ServerGallery, point_id
from fti_qdrant.images import open_image
from tests.search.conftest import WORDS

LEFT, RIGHT = (0.0, 0.0, 0.5, 1.0), (0.5, 0.0, 1.0, 1.0)


def halves(path: Path) -> list[np.ndarray]:
    pixels = np.asarray(open_image(path).image)
    middle = pixels.shape[1] // 2
    return [pixels[:, :middle], pixels[:, middle:]]


def test_a_part_answers_as_if_it_were_cut_out(search: ComposedSearch, paths: list[Path]):
    for box, half in zip((LEFT, RIGHT), halves(paths[3])):
        part = search.compose(Cropped(paths[3], box), WORDS[0]).vector
        assert np.allclose(part, search.compose(half, WORDS[0]).vector, atol=1e-5)


def test_two_parts_of_one_picture_in_one_batch_are_two_pictures(
    search: ComposedSearch, paths: list[Path]
):
    parts = [Cropped(paths[3], LEFT), Cropped(paths[3], RIGHT), paths[3]]
    together = search.compose_many([{"image": one} for one in parts])
    alone = [search.compose(one).vector for one in (*halves(paths[3]), paths[3])]
    for one, expected in zip(together, alone):
        assert np.allclose(one.vector, expected, atol=1e-5)
    both = search.compose(parts[:2], WORDS[0]).vector
    assert np.allclose(both, search.compose(halves(paths[3]), WORDS[0]).vector, atol=1e-5)


def test_a_part_of_a_stored_image_is_read_where_it_was_ingested(
    search: ComposedSearch, paths: list[Path]
):
    id = point_id(paths[3].name)
    hits = search.query(Cropped(id, LEFT), WORDS[0], limit=20)
    expected = search.query(Cropped(paths[3], LEFT), WORDS[0], limit=20)
    assert [(hit.id, hit.score) for hit in hits] == [(hit.id, hit.score) for hit in expected]
    assert id not in [hit.id for hit in hits]  # the picture itself is the reference
    kept = search.query(Cropped(id, LEFT), WORDS[0], limit=20, exclude_reference=False)
    assert id in [hit.id for hit in kept]
    assert hits.pictures.sources == (Cropped(str(paths[3]), LEFT),)


def test_paths_of_the_gallery_are_read_where_others_are_not(
    search: ComposedSearch, paths: list[Path]
):
    closed = ComposedSearch(search.composer, search.gallery, allow_paths=False)
    part = closed.compose(Cropped(point_id(paths[3].name), LEFT)).vector
    assert np.allclose(part, search.compose(Cropped(paths[3], LEFT)).vector)
    with pytest.raises(BadImage, match="paths are off"):
        closed.compose(Cropped(paths[3], LEFT))


def test_stored_images_that_cannot_be_cropped(
    search: ComposedSearch, memory: ServerGallery, plain_points: list[GalleryPoint]
):
    with pytest.raises(UnknownImageId, match="has no image"):
        search.query(Cropped("00000000-0000-5000-8000-000000000000", LEFT))
    point = plain_points[0]
    facts = {name: value for name, value in point.payload["_fti"].items() if name != "uri"}
    memory.upsert([GalleryPoint(point.id, point.vector, {"_fti": facts})])
    with pytest.raises(BadImage, match="does not store where its picture is"):
        ComposedSearch(search.composer, memory).query(Cropped(point.id, LEFT))


def test_a_picture_that_is_gone_is_not_told_where_it_was(
    search: ComposedSearch, memory: ServerGallery, plain_points: list[GalleryPoint], tmp_path: Path
):
    point = plain_points[0]
    over_memory = ComposedSearch(search.composer, memory)
    (tmp_path / "text.png").write_text("hello")
    for name, words in (("gone.png", "no such file"), ("text.png", "not an image")):
        facts = {**point.payload["_fti"], "uri": str(tmp_path / name)}
        memory.upsert([GalleryPoint(point.id, point.vector, {"_fti": facts})])
        with pytest.raises(BadImage, match=words) as refused:
            over_memory.query(Cropped(point.id, LEFT))
        assert point.id in str(refused.value)
        assert str(tmp_path) not in str(refused.value)


def test_a_part_of_an_image_in_an_archive(
    search: ComposedSearch,
    memory: ServerGallery,
    plain_points: list[GalleryPoint],
    paths: list[Path],
    tmp_path: Path,
):
    """Where the gallery can read a picture, a part of it can be a reference."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(paths[3], "3.png")
    point = plain_points[3]
    uri = f"zip://3.png::{tmp_path / 'a.zip'}"
    memory.upsert([GalleryPoint(point.id, point.vector, {"_fti": {"uri": uri}})])
    part = ComposedSearch(search.composer, memory).compose(Cropped(point.id, LEFT)).vector
    assert np.allclose(part, search.compose(halves(paths[3])[0]).vector, atol=1e-5)


def test_an_explanation_shows_the_part(search: ComposedSearch, paths: list[Path]):
    part = Cropped(Image.open(paths[3]), LEFT)
    hits = search.query(part, WORDS[0], explain=True)
    expected = search.query(Image.fromarray(halves(paths[3])[0]), WORDS[0], explain=True)
    assert hits.explanation is not None
    assert expected.explanation is not None
    assert hits.explanation.prompt_in_words == expected.explanation.prompt_in_words
    assert hits.pictures.sources == (part,)
