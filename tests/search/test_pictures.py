"""Where hits and explanations find their pictures again."""

from __future__ import annotations

import asyncio
import io
from pathlib import Path

import pytest

from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.gallery import GalleryPoint
from fti_qdrant.images import open_image


def test_hits_know_their_references(
    search: ComposedSearch, points: list[GalleryPoint], paths: list[Path]
) -> None:
    picture = open_image(paths[1]).image
    with paths[2].open("rb") as file:
        asked = [paths[0], picture, file, io.BytesIO(paths[3].read_bytes()), points[4].id]
        hits = search.query(asked, "in red", explain=True)
    assert hits.pictures.sources == (paths[0], picture, None, None, str(paths[4]))
    assert hits.pictures.limits is search.limits
    assert hits.explanation is not None
    assert hits.explanation.pictures == hits.pictures
    html = hits._repr_html_()
    assert html.count("<img") == 3 + len(hits)
    assert html.count("it is not known where the image is") == 2


def test_an_explanation_alone_knows_them_too(search: ComposedSearch, paths: list[Path]) -> None:
    explained = search.explain([paths[0], paths[1]], "in red")
    assert explained.pictures.sources == (paths[0], paths[1])
    assert explained._repr_html_().count("<img") == 2


@pytest.mark.parametrize("method", ["text", "image", "sum"])
def test_every_composer_shows_the_reference(
    search: ComposedSearch, paths: list[Path], method: str
) -> None:
    """Also one that has not decoded it."""
    hits = search.query(paths[0], "in red", composer=method, limit=2)
    assert hits._repr_html_().count("<img") == 3


def test_a_stored_image_without_a_place_is_said_to_be_one(
    search: ComposedSearch, points: list[GalleryPoint], monkeypatch: pytest.MonkeyPatch
) -> None:
    (stored,) = search.gallery.retrieve([points[0].id])
    stored.payload["_fti"].pop("uri")
    monkeypatch.setattr(search.gallery, "retrieve", lambda ids: [stored])
    assert search.query(points[0].id, "in red").pictures.sources == (None,)


def test_asynchronous_hits_are_the_same(search: ComposedSearch, paths: list[Path]) -> None:
    hits = asyncio.run(AsyncComposedSearch(search).query(paths[0], "in red"))
    assert hits.pictures.sources == (paths[0],)
