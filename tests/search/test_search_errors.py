"""What ``ComposedSearch`` refuses, and how it says so."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fti_qdrant import ComposedSearch, Composer, EdgeGallery, ServerGallery
from fti_qdrant.errors import (
    BadFilter,
    BadImage,
    BadQuery,
    GalleryNotFound,
    GalleryUnavailable,
    ModelMismatch,
    PromptTooLong,
    UnknownImageId,
)
from fti_qdrant.gallery import GalleryPoint, GallerySpec

TEXT = "in red, with long sleeves"


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({}, "nothing to search for"),
        ({"text": "   "}, "nothing to search for"),
        ({"image": [], "text": ""}, "nothing to search for"),
        ({"text": 5}, "text must be a str, not int 5"),
        ({"text": b"red"}, "text must be a str, not bytes"),
        ({"text": ["red"]}, "text must be a str, not list"),
        ({"text": "half \ud83d"}, "is not valid Unicode"),
        ({"text": "red", "limit": 0}, "at least 1, got 0"),
        ({"text": "red", "limit": -3}, "at least 1, got -3"),
        ({"text": "red", "limit": True}, "at least 1, got True"),
        ({"text": "red", "limit": 2.0}, r"at least 1, got 2\.0"),
        ({"text": "red", "limit": "9"}, "at least 1, got '9'"),
        ({"text": "red", "limit": 2**70}, "at most 100,000, got 11805"),
        ({"text": "red", "limit": 10**7}, "at most 100,000, got 10000000"),
        ({"text": "red", "limit": 100_001}, "at most 100,000, got 100001"),
        ({"text": "red", "score_threshold": float("nan")}, "score_threshold must be"),
        ({"text": "red", "score_threshold": "0.5"}, "score_threshold must be"),
        ({"text": "red", "explain": True}, "explain needs a reference image"),
        ({"text": "red", "text_weight": 2}, "text_weight must be a number from 0 to 1, got 2"),
        ({"text": "red", "composer": "slerp", "text_weight": -1}, "from 0 to 1, got -1"),
        ({"text": "red", "composer": "fti", "text_weight": 0.5}, "'fti' has no option"),
        ({"text": "red", "options": {"spice": 1}}, "'pdv' has no option 'spice'"),
        ({"avoid": "stripes"}, "nothing to search for"),
        ({"text": "red", "avoid": " "}, "avoid must be a text .* got ' '"),
        ({"text": "red", "avoid": 3}, "avoid must be a text .* got 3"),
        ({"text": "red", "weights": [1.0]}, "1 weights for 0 reference images"),
        ({"image": "a.jpg", "weights": [0, 0]}, "not all 0"),
        ({"image": "a.jpg", "weights": [-1.0]}, "numbers from 0 on"),
        ({"image": "a.jpg", "weights": [float("inf")]}, "numbers from 0 on"),
        ({"image": "a.jpg", "weights": 1.0}, "numbers from 0 on"),
        ({"text": "red", "composer": ["fti"]}, r"unknown composer \['fti'\]"),
        ({"text": "red", "composer": "magic"}, "unknown composer 'magic'; use one of pdv, fti"),
    ],
    ids=str,
)
def test_bad_queries(search: ComposedSearch, arguments: dict[str, Any], reason: str) -> None:
    for ask in (lambda: search.query(**arguments), lambda: search.query_many([arguments])):
        with pytest.raises(BadQuery, match=reason):
            ask()


@pytest.mark.parametrize("query", [{"picture": "a.jpg"}, {"text": "a", "top": 3}, 5, "red", None])
def test_query_many_takes_queries_only(search: ComposedSearch, query: Any) -> None:
    with pytest.raises(BadQuery, match="is not a query"):
        search.query_many([query])


NO_IMAGES = [5.0, True, np.bool_(True), {"path": "a.jpg"}, [[1, 2]], "missing.jpg", b"no picture"]


@pytest.mark.parametrize("image", NO_IMAGES, ids=repr)
def test_bad_images(search: ComposedSearch, image: Any) -> None:
    with pytest.raises(BadImage):
        search.query(image, TEXT)


@pytest.mark.parametrize("id", [5, 0, 2**64 - 1, np.int32(5), np.uint64(2**63)], ids=repr)
def test_a_number_is_an_id_and_never_a_path(search: ComposedSearch, id: int) -> None:
    with pytest.raises(UnknownImageId, match=f"has no image {int(id)};"):
        search.query(id, TEXT)
    with pytest.raises(UnknownImageId, match=f"has no image {int(id)};"):
        search.query(text=TEXT, like=[id])


@pytest.mark.parametrize("id", [-1, 2**64])
def test_numbers_that_are_no_ids(search: ComposedSearch, id: int) -> None:
    with pytest.raises(BadQuery, match=f"^{id} is not an image id"):
        search.query(id, TEXT)


def test_unknown_id(search: ComposedSearch) -> None:
    unknown = str(uuid.uuid4())
    with pytest.raises(UnknownImageId, match=f"has no image {unknown}"):
        search.query(unknown, TEXT)


def test_urls_are_off(search: ComposedSearch) -> None:
    with pytest.raises(BadImage, match="allow_urls=True"):
        search.query("http://127.0.0.1:9/a.jpg", TEXT)


def test_empty_gallery(composer: Composer, memory: ServerGallery, paths: list[Path]) -> None:
    search = ComposedSearch(composer, memory)
    for arguments in ({"text": TEXT}, {"image": paths[0]}, {"text": TEXT, "filter": {"a": 1}}):
        with pytest.raises(BadQuery, match="'shop' at :memory: is empty; fill it with fti-ingest"):
            search.query(**arguments)


@pytest.mark.parametrize(
    ("filter", "field"),
    [
        ({"colour": "red"}, "colour"),
        ({"color": "red", "not": {"or": [{"cost": 1}]}}, "cost"),
        ({"shelf.column": 1}, r"shelf\.column"),
        ({"shelf row": 1}, '"shelf row"'),
    ],
)
def test_unknown_field(search: ComposedSearch, filter: dict[str, Any], field: str) -> None:
    fields = "fields are: color, name, price, shelf"
    with pytest.raises(BadFilter, match=f"{field}: no image has this field; {fields}"):
        search.query(text=TEXT, filter=filter)


def test_bad_filter(search: ComposedSearch) -> None:
    with pytest.raises(BadFilter, match="price: unknown operator 'below'"):
        search.query(text=TEXT, filter={"price": {"below": 3}})
    with pytest.raises(BadFilter, match="price: holds numbers"):
        search.query(text=TEXT, filter={"price": {"lt": "2026-01-05"}})
    with pytest.raises(BadFilter, match="color: holds texts, and cannot be compared with a number"):
        search.query(text=TEXT, filter={"color": {"lt": 5}})


def test_too_many_references(search: ComposedSearch, paths: list[Path]) -> None:
    with pytest.raises(PromptTooLong, match="use fewer reference images"):
        search.query(paths * 4, TEXT)


def test_an_id_without_stored_pseudo_words(
    composer: Composer, memory: ServerGallery, plain_points: list[GalleryPoint]
) -> None:
    memory.upsert(plain_points)
    search = ComposedSearch(composer, memory)
    for name in ("pdv", "fti", "subject"):
        with pytest.raises(BadQuery, match=r"stores no pseudo-words.*or use composer 'sum'"):
            search.query(plain_points[0].id, TEXT, composer=name)
    with pytest.raises(BadQuery, match=r"no features that are not normalized.*'sum'"):
        search.query(plain_points[0].id, TEXT, composer="raw-sum")
    with pytest.raises(BadQuery, match="no pseudo-words to explain"):
        search.explain(plain_points[0].id).subject  # noqa: B018
    chosen = search.query(plain_points[0].id, TEXT, composer="sum")
    assert chosen.query.warnings == ()
    default = search.query(plain_points[0].id, TEXT)
    assert default.composer == "sum"
    assert {hit.id: hit.score for hit in default} == pytest.approx(
        {hit.id: hit.score for hit in chosen}, abs=1e-6
    )
    assert "so composer 'sum' answered; for 'pdv', pass the picture" in default.query.warnings[0]


def test_without_an_inverter(
    composer: Composer, memory: ServerGallery, plain_points: list[GalleryPoint], paths: list[Path]
) -> None:
    memory.upsert(plain_points)
    search = ComposedSearch(Composer(composer.backbone), memory)
    for name in ("pdv", "fti", "subject"):
        with pytest.raises(BadQuery, match="needs an inverter"):
            search.query(paths[0], TEXT, composer=name)
    with pytest.raises(BadQuery, match="no pseudo-words to explain: no inverter is loaded"):
        search.explain(paths[0]).subject  # noqa: B018
    assert search.query(paths[0], TEXT, composer="sum").query.composer == "sum"
    assert search.query(paths[0], TEXT).query.composer == "sum"
    assert search.query(paths[0]).query.composer == "image"


def test_a_gallery_of_another_model(
    tmp_path: Path, spec: GallerySpec, model: str, save_other_model: Callable[[], str]
) -> None:
    EdgeGallery.create(tmp_path / "gallery", spec).close()
    other = save_other_model()
    with pytest.raises(ModelMismatch) as caught:
        ComposedSearch.open(tmp_path / "gallery", model=other, device="cpu")
    assert f"made with {model} (weights" in str(caught.value)
    assert f"loaded model is {other} (weights" in str(caught.value)
    EdgeGallery.open(tmp_path / "gallery").close()  # the lock is free again


def test_pseudo_words_of_another_inverter(
    search: ComposedSearch, composer: Composer, points: list[GalleryPoint], paths: list[Path]
) -> None:
    torch.manual_seed(5)
    assert composer.inverter is not None
    other = type(composer.inverter).for_backbone(composer.backbone)
    mixed = ComposedSearch(Composer(composer.backbone, other), search.gallery)
    with pytest.raises(ModelMismatch, match=f"of inverter {composer.inverter.weights_hash}"):
        mixed.query(points[0].id, TEXT)
    assert len(mixed.query(paths[0], TEXT, limit=3)) == 3
    assert len(mixed.query(points[0].id, TEXT, composer="sum", limit=3)) == 3


def test_open_and_connect_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(GalleryNotFound, match="fti-ingest"):
        ComposedSearch.open(tmp_path / "missing")
    with pytest.raises(GalleryNotFound, match="fti-ingest"):
        ComposedSearch.connect(":memory:", "shop")
    with pytest.raises(GalleryUnavailable, match="does not answer"):
        ComposedSearch.connect("http://127.0.0.1:9", "shop")


def test_open_elsewhere_and_closed(search: ComposedSearch, tmp_path: Path) -> None:
    assert isinstance(search.gallery, EdgeGallery)
    with pytest.raises(GalleryUnavailable, match="is open already"):
        ComposedSearch.open(search.gallery.path)
    gallery = EdgeGallery.create(tmp_path / "gallery", search.gallery.spec)
    with ComposedSearch(search.composer, gallery) as closed:
        pass
    with pytest.raises(GalleryUnavailable, match="is closed"):
        closed.query(text=TEXT)
