"""Pages, cutoff, diversity, groups, order and facets: every store against one slow reference."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from qdrant_client import models

from fti_qdrant.errors import BadQuery
from fti_qdrant.filters.grammar import as_filter
from fti_qdrant.gallery import (
    FieldOrder,
    Gallery,
    GalleryPoint,
    GallerySpec,
    VectorQuery,
    point_id,
)
from fti_qdrant.gallery.chance_map import ChanceMap
from fti_qdrant.gallery.protocol import DIVERSE_CANDIDATES
from tests.gallery.conftest import FINGERPRINT, INDEXES, STORES, Store
from tests.gallery.test_conformance import brute_force, same, unit

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")

Points = list[GalleryPoint]
Scored = list[tuple[str, float]]
VECTOR = np.random.default_rng(11).normal(size=8).astype(np.float32)


@pytest.fixture(scope="module")
def many(points: Points) -> Points:
    """The fifty images, which all point the query's way, with products of one to many photos."""
    rng = np.random.default_rng(3)
    made = []
    for number, point in enumerate(points):
        vector = unit(VECTOR) + 0.25 * rng.normal(size=8)
        product = f"product {int(number**0.5)}"  # 1, 3, 5, ... 13 photos each
        payload = {**point.payload, "product": product, "shelf": number % 6}
        if number % 9 == 0:
            del payload["product"]
        if number % 11 == 0:
            payload["price"] = None
        made.append(replace(point, vector=vector.astype(np.float32), payload=payload))
    return made


@pytest.fixture(scope="module", params=[*STORES, "rest"])
def filled(
    request: pytest.FixtureRequest, many: Points, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gallery]:
    """One gallery of each kind for all tests that only read."""
    if request.param == "server" and not os.environ.get("QDRANT_URL"):
        pytest.skip("no Qdrant server: set QDRANT_URL")
    store = Store(request.param, tmp_path_factory.mktemp("store"))
    spec = GallerySpec(fingerprint=FINGERPRINT, indexes=INDEXES)  # type: ignore[arg-type]
    with store.create(spec) as made:
        made.upsert(many)
        yield made
    store.remove()


def mmr(points: Points, diversity: float) -> Scored:
    """Maximal marginal relevance, as its paper has it, over all images."""
    vectors = {point.id: unit(point.vector) for point in points}
    left = dict(brute_force(points, VECTOR))
    chosen: Scored = []
    while left:
        best = max(
            left,
            key=lambda id: (
                (1 - diversity) * left[id]
                - diversity * max((vectors[id] @ vectors[one] for one, _ in chosen), default=0)
            ),
        )
        chosen.append((best, left.pop(best)))
    return chosen


def in_groups(scored: Scored, points: Points, field: str, size: int) -> dict[Any, Scored]:
    payloads = {point.id: point.payload for point in points}
    groups: dict[Any, Scored] = {}
    for id, score in scored:
        values = payloads[id].get(field)
        for value in values if isinstance(values, list) else [values]:
            if value is not None:
                groups.setdefault(value, []).append((id, score))
    return {value: hits[:size] for value, hits in groups.items()}


def flat(groups: dict[Any, Scored], start: int, end: int) -> tuple[list[Any], Scored]:
    page = list(groups.items())[start:end]
    return [value for value, hits in page for _ in hits], [hit for _, hits in page for hit in hits]


def test_pages_continue_each_other(filled: Gallery, many: Points) -> None:
    expected = brute_force(many, VECTOR)
    for size in (1, 7, 49):
        for start in range(0, 60, size):
            hits = filled.search(VectorQuery(VECTOR, limit=size, offset=start))
            same(hits, expected[start : start + size])
    for offset in (50, 51, 100_000, 10**30):
        for other in ({}, {"diversity": 0.5}, {"group_by": "brand"}, {"cutoff": 0.5}):
            assert filled.search(VectorQuery(VECTOR, offset=offset, **other)) == []


def test_pages_of_equal_scores(gallery: Gallery, many: Points) -> None:
    """Engines return any of the images that tie at a page's end, others for another limit."""
    gallery.upsert([replace(point, vector=many[n // 20].vector) for n, point in enumerate(many)])
    found = [
        hit.id
        for start in range(0, 50, 7)
        for hit in gallery.search(VectorQuery(VECTOR, limit=7, offset=start))
    ]
    assert found == [hit.id for hit in gallery.search(VectorQuery(VECTOR, limit=50))]
    assert len(set(found)) == 50


@pytest.mark.parametrize("cutoff", [0.3, 0.9, 0.97, 1.0])
def test_cutoff_is_a_share_of_the_best(filled: Gallery, many: Points, cutoff: float) -> None:
    cheap = as_filter({"price": {"lt": 60}})
    rows = [point for point in many if (point.payload["price"] or 99) < 60]
    expected = brute_force(rows, VECTOR)
    kept = [one for one in expected if one[1] >= cutoff * expected[0][1]]
    assert 0 < len(kept) < 50
    same(filled.search(VectorQuery(VECTOR, cheap, limit=50, cutoff=cutoff)), kept)
    same(filled.search(VectorQuery(VECTOR, cheap, limit=3, offset=1, cutoff=cutoff)), kept[1:4])
    threshold = expected[5][1]
    both = VectorQuery(VECTOR, cheap, limit=50, cutoff=cutoff, score_threshold=threshold - 1e-5)
    same(filled.search(both), kept[:6])


def test_cutoff_where_all_are_unlike_the_query(filled: Gallery, many: Points) -> None:
    expected = brute_force(many, -VECTOR)
    best = expected[0][1]
    assert best < 0
    kept = [one for one in expected if one[1] >= best - 0.2 * abs(best)]
    same(filled.search(VectorQuery(-VECTOR, limit=50, cutoff=0.8)), kept)


@pytest.mark.parametrize("cutoff", [0.3, 0.7, 1.0])
def test_cutoff_is_a_share_of_the_best_chance(filled: Gallery, many: Points, cutoff: float) -> None:
    """Where they are known: of single hits, groups, diverse ones and those in another order."""
    chances = ChanceMap(cosines=(-1.0, 0.5, 0.8, 0.95), chances=(0.0, 0.1, 0.5, 0.9))
    scored = brute_force(many, VECTOR)
    best = chances.of(scored[0][1])
    kept = [one for one in scored if chances.of(one[1]) >= cutoff * best]
    assert 0 < len(kept) < 50
    assert cutoff == 1 or len(kept) > 3
    query = VectorQuery(VECTOR, limit=50, cutoff=cutoff, chances=chances)
    same(filled.search(query), kept)
    same(filled.search(replace(query, limit=2, offset=1)), kept[1:3])
    near = [point for point in many if point.id in dict(kept)]
    same(filled.search(replace(query, diversity=0.6)), mmr(near, 0.6))
    values, rows = flat(in_groups(kept, many, "product", 2), 0, 50)
    hits = filled.search(replace(query, group_by="product", group_size=2))
    assert [hit.group for hit in hits] == values
    same(hits, rows)
    ordered = filled.search(replace(query, order_by=FieldOrder("stock")))
    stock = {point.id: point.payload["stock"] for point in many}
    same(ordered, sorted(kept, key=lambda one: stock[one[0]]))


@pytest.mark.parametrize("diversity", [0.2, 0.7, 1.0])
def test_diversity(filled: Gallery, many: Points, diversity: float) -> None:
    expected = mmr(many, diversity)
    asked = VectorQuery(VECTOR, limit=12, diversity=diversity)
    same(filled.search(asked), expected[:12])
    same(filled.search(replace(asked, limit=4, offset=5)), expected[5:9])
    assert filled.search(replace(asked, limit=3, offset=49)) != []
    best = max(score for _, score in expected)
    near = [point for point in many if unit(point.vector) @ unit(VECTOR) >= 0.93 * best]
    assert 5 < len(near) < 50
    same(filled.search(replace(asked, limit=50, cutoff=0.93)), mmr(near, diversity))
    assert filled.search(replace(asked, limit=DIVERSE_CANDIDATES + 1, offset=48))


@pytest.mark.parametrize("field", ["product", "stock", "tags", "since"])
@pytest.mark.parametrize("size", [1, 3])
def test_groups(filled: Gallery, many: Points, field: str, size: int) -> None:
    expected = in_groups(brute_force(many, VECTOR), many, field, size)
    for limit, offset in ((2, 0), (3, 2), (50, 0), (50, 3), (5, 50)):
        query = VectorQuery(
            VECTOR, limit=limit, offset=offset, group_by=field, group_size=size, with_vectors=True
        )
        hits = filled.search(query)
        values, rows = flat(expected, offset, offset + limit)
        assert [hit.group for hit in hits] == values
        same(hits, rows)
        payloads = {point.id: point.payload for point in many}
        assert all(hit.payload == payloads[hit.id] and hit.vector is not None for hit in hits)


def test_groups_under_filter_cutoff_and_diversity(filled: Gallery, many: Points) -> None:
    new = as_filter({"new": True})
    rows = [point for point in many if point.payload["new"]]
    scored = brute_force(rows, VECTOR)
    kept = [one for one in scored if one[1] >= 0.93 * scored[0][1]]
    query = VectorQuery(VECTOR, new, limit=4, offset=1, group_by="product", group_size=2)
    for asked, order in (
        (replace(query, cutoff=0.93), kept),
        (replace(query, diversity=0.6), mmr(rows, 0.6)),
    ):
        values, expected = flat(in_groups(order, rows, "product", 2), 1, 5)
        hits = filled.search(asked)
        assert [hit.group for hit in hits] == values
        same(hits, expected)


def test_many_photos_of_one_product_hide_no_other(gallery: Gallery, many: Points) -> None:
    rng = np.random.default_rng(1)
    flood = [
        GalleryPoint(
            point_id(f"flood {n}"),
            (unit(VECTOR) + 0.001 * rng.normal(size=8)).astype(np.float32),
            {"product": ["flood", "both"] if n == 90 else "flood"},
        )
        for n in range(100)
    ]
    gallery.upsert([*many, *flood])
    hits = gallery.search(VectorQuery(VECTOR, limit=9, group_by="product", group_size=2))
    expected = in_groups(brute_force([*many, *flood], VECTOR), [*many, *flood], "product", 2)
    values, rows = flat(expected, 0, 9)
    assert [hit.group for hit in hits] == values
    assert values[:2] == ["flood", "flood"]
    assert "both" in values
    same(hits, rows)


@pytest.mark.parametrize("descending", [False, True])
def test_order_by_a_field(filled: Gallery, many: Points, descending: bool) -> None:
    payloads = {point.id: point.payload for point in many}
    scored = brute_force(many, VECTOR)
    kept = [one for one in scored if one[1] >= 0.85 * scored[0][1]]
    assert 10 < len(kept) < 50
    for field in ("price", "stock", "since"):
        having = [one for one in kept if payloads[one[0]][field] is not None]
        lacking = [one for one in kept if payloads[one[0]][field] is None]
        having.sort(key=lambda one: payloads[one[0]][field], reverse=descending)
        query = VectorQuery(VECTOR, limit=50, cutoff=0.85, order_by=FieldOrder(field, descending))
        same(filled.search(query), having + lacking)
        same(filled.search(replace(query, limit=4, offset=3)), (having + lacking)[3:7])
        groups = in_groups(having + lacking, many, "product", 1)
        values, rows = flat(groups, 1, 4)
        hits = filled.search(replace(query, limit=3, offset=1, group_by="product"))
        assert [hit.group for hit in hits] == values
        same(hits, rows)


def test_fields_of_the_payload(filled: Gallery, many: Points) -> None:
    payloads = {point.id: point.payload for point in many}
    fields = ("brand", "size.width", "_fti.uri")
    for other in ({}, {"diversity": 0.3}, {"group_by": "product"}):
        query = VectorQuery(VECTOR, limit=5, payload_fields=fields, **other)
        for hit in filled.search(query):
            full = payloads[hit.id]
            assert hit.payload == {
                "brand": full["brand"],
                "size": {"width": full["size"]["width"]},
                "_fti": {"uri": full["_fti"]["uri"]},
            }
    assert {str(hit.payload) for hit in filled.search(replace(query, payload_fields=()))} == {"{}"}


def test_search_parameters_change_no_small_answer(filled: Gallery, many: Points) -> None:
    params = models.SearchParams(
        hnsw_ef=64,
        acorn=models.AcornSearchParams(enable=True, max_selectivity=0.4),
        quantization=models.QuantizationSearchParams(rescore=True, oversampling=3.0),
    )
    for exact in (True, False, None):
        query = VectorQuery(VECTOR, limit=9, exact=exact, params=params)
        same(filled.search(query), brute_force(many, VECTOR)[:9])


def test_facets(filled: Gallery, many: Points) -> None:
    for field in ("brand", "stock", "new"):
        for filter in (None, {"price": {"gte": 30}}):
            rows = [
                point.payload
                for point in many
                if filter is None or (point.payload["price"] or 0) >= 30
            ]
            counts = Counter(row[field] for row in rows)
            expected = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
            found = filled.facets(field, as_filter(filter), 50)
            assert [tuple(one) for one in found] == expected
            assert all(type(one.value) is type(rows[0][field]) for one in found)
            assert [tuple(one) for one in filled.facets(field, as_filter(filter), 2)] == expected[
                :2
            ]
    assert filled.indexes()["brand"] == "keyword"


@pytest.mark.parametrize(
    "wrong", [{"limit": 0}, {"offset": -1}, {"group_size": 0, "group_by": "brand"}]
)
def test_numbers_below_their_least(filled: Gallery, wrong: dict[str, Any]) -> None:
    name = next(iter(wrong))
    with pytest.raises(BadQuery, match=f"{name} must be at least .* got {wrong[name]}"):
        filled.search(VectorQuery(VECTOR, **wrong))


def test_together_as_one_by_one(filled: Gallery) -> None:
    queries = [
        VectorQuery(VECTOR, limit=3),
        VectorQuery(VECTOR, limit=3, offset=2, cutoff=0.9),
        VectorQuery(-VECTOR, limit=4, group_by="product", group_size=2),
        VectorQuery(VECTOR, limit=3, diversity=0.5, cutoff=0.8),
        VectorQuery(VECTOR, limit=6, cutoff=0.8, order_by=FieldOrder("price")),
    ]
    assert filled.search_many(queries) == [filled.search(query) for query in queries]
