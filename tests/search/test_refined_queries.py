"""Pages, groups, order, feedback and facets of a whole search, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from fti_qdrant import ComposedSearch, Query, ServerGallery
from fti_qdrant.errors import BadQuery, FtiError, UnknownImageId
from fti_qdrant.gallery import GalleryPoint, point_id

Points = list[GalleryPoint]
TEXT = "in red"


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@pytest.fixture
def mixed(memory: ServerGallery, plain_points: Points, composer: Any) -> ComposedSearch:
    """A search over fields of every kind, on qdrant-client's local mode."""
    for number, point in enumerate(plain_points):
        point.payload.update(
            {"new": number > 3, "day": f"2026-01-{number + 1:02d}", "weight": number + 0.5}
        )
    plain_points[0].payload["mixed"] = "text"
    plain_points[1].payload["mixed"] = 3
    memory.upsert(plain_points)
    return ComposedSearch(composer, memory)


def test_pages_and_groups(search: ComposedSearch) -> None:
    all_ids = [hit.id for hit in search.query(text=TEXT, limit=12)]
    pages = [search.query(text=TEXT, limit=5, offset=start) for start in (0, 5, 10, 15)]
    assert [hit.id for page in pages for hit in page] == all_ids
    hits = search.query(text=TEXT, group_by="color", group_size=2)
    assert list(hits.groups) == [hits[0].group, hits[2].group]
    assert set(hits.groups) == {"red", "blue"}
    assert all(hit.payload["color"] == value for value, of in hits.groups.items() for hit in of)
    assert hits[0].as_dict()["group"] == hits[0].group
    assert search.query(text=TEXT).groups == {}


def test_an_order_within_the_cutoff(search: ComposedSearch) -> None:
    scores = {hit.id: hit.score for hit in search.query(text=TEXT, limit=12)}
    best = max(scores.values())
    least = best - 0.5 * abs(best)
    kept = [id for id, score in scores.items() if score >= least]
    for order in ("-price", models.OrderBy(key="price", direction=models.Direction.DESC)):
        hits = search.query(text=TEXT, limit=12, cutoff=0.5, order_by=order)
        assert {hit.id for hit in hits} == set(kept)
        prices = [hit.payload["price"] for hit in hits]
        assert prices == sorted(prices, reverse=True)
        assert all(hit.score == pytest.approx(scores[hit.id], abs=1e-6) for hit in hits)
    nested = search.query(text=TEXT, limit=2, score_threshold=-1, order_by="shelf.row")
    assert [hit.payload["shelf"]["row"] for hit in nested] == [0, 1]


def test_fields_on_the_hits(search: ComposedSearch) -> None:
    full = search.query(text=TEXT, limit=2)
    some = search.query(text=TEXT, limit=2, with_payload=["color", "shelf.row"])
    none = search.query(text=TEXT, limit=2, with_payload=False)
    for hit, part, bare in zip(full, some, none):
        assert part.payload == {"color": hit.payload["color"], "shelf": hit.payload["shelf"]}
        assert bare.payload == {}
        assert hit.uri == part.uri == bare.uri is not None


def test_liked_and_disliked_images(search: ComposedSearch, points: Points) -> None:
    liked, disliked = [points[2], points[5]], [points[7]]
    composed = search.compose(text=TEXT).unit_vector
    vector = composed + 0.75 * np.mean([unit(one.vector) for one in liked], axis=0)
    vector = unit(vector - 0.15 * unit(disliked[0].vector))
    rated = {"like": [one.id for one in liked], "dislike": disliked[0].id}
    made = search.compose(text=TEXT, **rated)  # type: ignore[arg-type]
    np.testing.assert_allclose(made.vector, vector, atol=1e-6)
    others = [one for one in points if one not in (*liked, *disliked)]
    expected = sorted(others, key=lambda one: (-float(unit(one.vector) @ vector), one.id))
    hits = search.query(text=TEXT, limit=12, **rated)  # type: ignore[arg-type]
    assert [hit.id for hit in hits] == [one.id for one in expected]
    scores = [float(unit(one.vector) @ vector) for one in expected]
    np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-5)
    kept = search.query(text=TEXT, limit=12, exclude_reference=False, **rated)  # type: ignore[arg-type]
    assert len(kept) == 12
    twice = search.query(text=TEXT, limit=12, like=[*rated["like"], rated["like"][0]])
    assert twice == search.query(text=TEXT, limit=12, like=rated["like"])


def test_query_many_takes_all_of_them(search: ComposedSearch, points: Points) -> None:
    asked: list[dict[str, Any]] = [
        {"text": TEXT, "offset": 2, "limit": 3},
        {"text": TEXT, "group_by": "color", "cutoff": 0.2},
        {"text": TEXT, "diversity": 0.5, "limit": 4, "exact": True},
        {"text": TEXT, "like": [points[1].id], "with_payload": False},
        {"text": TEXT, "cutoff": 0.1, "order_by": "price", "search_params": {"hnsw_ef": 32}},
    ]
    for query, hits in zip(asked, search.query_many(asked)):
        assert [(hit.id, hit.group) for hit in hits] == [
            (hit.id, hit.group) for hit in search.query(**query)
        ]
        assert hits


def test_exact_comes_from_either_place(search: ComposedSearch) -> None:
    for options in ({"exact": False}, {"search_params": {"exact": True}}):
        assert len(search.query(text=TEXT, **options)) == 10  # type: ignore[arg-type]
    with pytest.raises(BadQuery, match="given twice"):
        Query(text=TEXT, exact=True, search_params={"exact": False})
    Query(text=TEXT, exact=True, search_params=models.SearchParams(hnsw_ef=64))


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"offset": -1}, "offset must be a whole number of at least 0, got -1"),
    ({"offset": 1.5}, "offset .* got 1.5"),
    ({"offset": True}, "offset .* got True"),
    ({"diversity": 3}, "diversity must be a number from 0 .* got 3"),
    ({"diversity": -0.1}, "diversity .* got -0.1"),
    ({"diversity": float("nan")}, "diversity .* got nan"),
    ({"cutoff": 0}, "cutoff .* above 0 to 1, got 0"),
    ({"cutoff": 1.01}, "cutoff .* got 1.01"),
    ({"cutoff": "0.9"}, "cutoff .* got '0.9'"),
    ({"group_by": "color", "group_size": 0}, "group_size .* at least 1, got 0"),
    ({"group_size": 2}, "group_size 2 needs group_by"),
    ({"group_by": ""}, "group_by must be the name of a payload field, got ''"),
    ({"group_by": ["color"]}, r"group_by .* got \['color'\]"),
    ({"order_by": "price"}, "order_by 'price' needs a cutoff"),
    ({"order_by": "price", "cutoff": 0.5, "diversity": 0.5}, "two orders"),
    ({"order_by": "-", "cutoff": 0.5}, "order_by must be a field"),
    ({"order_by": models.OrderBy(key="price", start_from=3), "cutoff": 1}, "start from 3"),
    ({"with_payload": "color"}, "with_payload must be .* got 'color'"),
    ({"with_payload": [1]}, r"with_payload must be .* got \[1\]"),
    ({"exact": "yes"}, "exact must be true or false, got 'yes'"),
    ({"search_params": {"hnsw": 1}}, "search_params .*hnsw"),
    ({"search_params": {"hnsw_ef": 0}}, "hnsw_ef must be from 1 .* got 0"),
    ({"search_params": {"quantization": {"oversampling": 0.5}}}, "oversampling .* got 0.5"),
    ({"search_params": {"acorn": {"max_selectivity": 2}}}, "max_selectivity .* got 2"),
    ({"search_params": 7}, "search_params 7"),
    ({"like": ["dress.jpg"]}, "like takes the ids of stored images, got 'dress.jpg'"),
    ({"dislike": [None]}, "dislike takes the ids of stored images, got None"),
    ({"like": [point_id("a")], "dislike": [point_id("a")]}, "in both like and dislike"),
]


@pytest.mark.parametrize(("options", "message"), REFUSED, ids=[str(one) for one, _ in REFUSED])
def test_what_no_gallery_can_answer(options: dict[str, Any], message: str) -> None:
    with pytest.raises(BadQuery, match=message):
        Query(text=TEXT, **options)


FIELDS: list[tuple[dict[str, Any], str]] = [
    (
        {"group_by": "product"},
        "group_by 'product': no image has a value in this field; fields are: color",
    ),
    ({"group_by": "new"}, "group_by 'new': the field holds true or false"),
    ({"group_by": "weight"}, "group_by 'weight': the field holds numbers with fractions"),
    ({"group_by": "shelf"}, "group_by 'shelf': the field holds objects"),
    ({"order_by": "color", "cutoff": 0.5}, "order_by 'color': the field holds texts"),
    ({"order_by": "-new", "cutoff": 0.5}, "order_by 'new': the field holds true or false"),
    ({"order_by": "prize", "cutoff": 0.5}, "order_by 'prize': no image has a value"),
    ({"order_by": "mixed", "cutoff": 0.5}, "order_by 'mixed': .* numbers and texts"),
    (
        {"with_payload": ["color", "colour"]},
        "with_payload 'colour': no image has a value in this field",
    ),
    ({"like": [point_id("nowhere")]}, "has no image"),
    ({"diversity": 0.5, "filter": {"prize": 1}}, "prize: no image has this field"),
]


@pytest.mark.parametrize(("options", "message"), FIELDS, ids=[str(one) for one, _ in FIELDS])
def test_what_this_gallery_cannot_answer(
    mixed: ComposedSearch, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(FtiError, match=message) as caught:
        mixed.query(text=TEXT, **options)
    assert isinstance(caught.value, UnknownImageId if "like" in options else ValueError)


def test_fields_of_other_kinds_that_do(mixed: ComposedSearch) -> None:
    assert [hit.group for hit in mixed.query(text=TEXT, group_by="mixed")] != []
    days = mixed.query(text=TEXT, limit=12, score_threshold=-1, order_by="-day")
    assert [hit.payload["day"][-2:] for hit in days][:2] == ["12", "11"]
    assert len(mixed.query(text=TEXT, limit=20, group_by="day")) == 12


def test_facets(search: ComposedSearch, composer: Any, spec: Any, points: Points, tmp_path) -> None:
    from fti_qdrant import EdgeGallery

    spec = spec.model_copy(update={"indexes": {"color": "keyword", "price": "float"}})
    with EdgeGallery.create(tmp_path / "shop", spec) as gallery:
        gallery.upsert(points)
        shop = ComposedSearch(composer, gallery)
        assert dict(shop.facets("color")) == {"blue": 6, "red": 6}
        assert dict(shop.facets("color", filter={"price": {"lt": 3}})) == {"red": 2, "blue": 1}
        assert [one.value for one in shop.facets("color", limit=1)] == ["blue"]
        with pytest.raises(BadQuery, match=r"'price'.*numbers with fractions"):
            shop.facets("price")
        with pytest.raises(BadQuery, match=r"no index.*--index 'shelf.row:integer'"):
            shop.facets("shelf.row")
        with pytest.raises(BadQuery, match="facets 'colour': no image has a value in this field"):
            shop.facets("colour")
        with pytest.raises(BadQuery, match=r"limit .* got 0"):
            shop.facets("color", limit=0)


def test_the_command_makes_the_index_on_a_server(
    mixed: ComposedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BadQuery, match=r"create_payload_index\('shop', 'color', 'keyword'\)"):
        mixed.facets("color")
    monkeypatch.setattr(mixed.gallery, "indexes", lambda: {"color": "keyword"})  # as a server has
    assert dict(mixed.facets("color")) == {"blue": 6, "red": 6}
