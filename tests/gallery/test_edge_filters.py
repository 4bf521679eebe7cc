"""qdrant_client's filters beyond our grammar, translated for the embedded engine.

qdrant-client's local mode, which takes them as they are, is the oracle.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from fti_qdrant.errors import BadFilter
from fti_qdrant.gallery import (
    EdgeGallery,
    Gallery,
    GalleryPoint,
    GallerySpec,
    ServerGallery,
    VectorQuery,
    point_id,
)
from fti_qdrant.gallery.edge_filters import to_edge
from fti_qdrant.model.fingerprint import Fingerprint

VECTOR = np.ones(4, np.float32)
CITIES = {
    "Berlin": (13.405, 52.52),
    "Potsdam": (13.064, 52.39),
    "Paris": (2.352, 48.857),
    "Oslo": (10.75, 59.91),
    "Quito": (-78.47, -0.18),
    "Sydney": (151.2, -33.87),
}


@pytest.fixture(scope="module")
def galleries(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Gallery, Gallery]]:
    spec = GallerySpec(fingerprint=Fingerprint("tiny", "0", "GELU", "targetpad", 4))
    edge = EdgeGallery.create(tmp_path_factory.mktemp("edge"), spec)
    local = ServerGallery.create(QdrantClient(":memory:"), "oracle", spec)
    points = [
        GalleryPoint(
            point_id(city),
            VECTOR,
            {
                "city": city,
                "note": [None, "red brick house", "the red door", "brick"][number % 4],
                "rank": number,
                "tags": ["a", "b", "c"][: number % 4],
                "open": number % 2 == 0,
                "since": f"2026-0{number + 1}-01T00:00:00Z",
                "at": {"lon": lon, "lat": lat},
                "parts": [
                    {"color": "red", "size": number},
                    {"color": "blue", "size": 5 - number},
                ],
            },
        )
        for number, (city, (lon, lat)) in enumerate(CITIES.items())
    ]
    for gallery in (edge, local):
        gallery.upsert(points)
    yield edge, local
    edge.close()
    local.close()


def field(key: str, **condition: Any) -> models.FieldCondition:
    return models.FieldCondition(key=key, **condition)


def match(key: str, value: Any) -> models.FieldCondition:
    return field(key, match=models.MatchValue(value=value))


def point(city: str) -> models.GeoPoint:
    lon, lat = CITIES[city]
    return models.GeoPoint(lon=lon, lat=lat)


def ring(*corners: tuple[float, float]) -> models.GeoLineString:
    closed = [*corners, corners[0]]
    return models.GeoLineString(points=[models.GeoPoint(lon=x, lat=y) for x, y in closed])


EUROPE = ring((-10, 35), (40, 35), (40, 72), (-10, 72))
FRANCE = ring((-5, 42), (8, 42), (8, 51), (-5, 51))
BOX = models.GeoBoundingBox(
    top_left=models.GeoPoint(lon=0, lat=55), bottom_right=models.GeoPoint(lon=20, lat=40)
)
RED_BIG = models.Filter(
    must=[match("color", "red"), field("size", range=models.Range(gte=4))],
)

CONDITIONS: dict[str, tuple[Any, set[str]]] = {
    "value": (match("city", "Oslo"), {"Oslo"}),
    "true": (match("open", True), {"Berlin", "Paris", "Quito"}),
    "integer": (match("rank", 2), {"Paris"}),
    "any": (field("city", match=models.MatchAny(any=["Oslo", "Rome"])), {"Oslo"}),
    "any integer": (field("rank", match=models.MatchAny(any=[0, 5, 9])), {"Berlin", "Sydney"}),
    "except": (
        field("city", match=models.MatchExcept(**{"except": ["Oslo", "Paris", "Berlin"]})),
        {"Potsdam", "Quito", "Sydney"},
    ),
    "except integers": (
        field("rank", match=models.MatchExcept(**{"except": [0, 1, 2, 3]})),
        {"Quito", "Sydney"},
    ),
    "text": (field("note", match=models.MatchText(text="red")), {"Potsdam", "Paris", "Sydney"}),
    "range": (field("rank", range=models.Range(gt=1, lte=3)), {"Paris", "Oslo"}),
    "dates": (
        field(
            "since",
            range=models.DatetimeRange(
                gte=datetime(2026, 2, 1, tzinfo=timezone.utc), lt=datetime(2026, 4, 1)
            ),
        ),
        {"Potsdam", "Paris"},
    ),
    "geo radius": (
        field("at", geo_radius=models.GeoRadius(center=point("Berlin"), radius=50_000)),
        {"Berlin", "Potsdam"},
    ),
    "geo box": (field("at", geo_bounding_box=BOX), {"Berlin", "Potsdam", "Paris"}),
    "geo polygon": (
        field("at", geo_polygon=models.GeoPolygon(exterior=EUROPE, interiors=[FRANCE])),
        {"Berlin", "Potsdam", "Oslo"},
    ),
    "values count": (
        field("tags", values_count=models.ValuesCount(gte=2, lt=4)),
        {"Paris", "Oslo"},
    ),
    "null": (models.IsNullCondition(is_null=models.PayloadField(key="note")), {"Berlin", "Quito"}),
    "empty": (
        models.IsEmptyCondition(is_empty=models.PayloadField(key="tags")),
        {"Berlin", "Quito"},
    ),
    "null field": (field("note", is_null=True), {"Berlin", "Quito"}),
    "not empty field": (field("tags", is_empty=False), {"Potsdam", "Paris", "Oslo", "Sydney"}),
    "ids": (models.HasIdCondition(has_id=[point_id("Oslo"), point_id("Rome")]), {"Oslo"}),
    "has vector": (models.HasVectorCondition(has_vector="image"), set(CITIES)),
    "nested": (
        models.NestedCondition(nested=models.Nested(key="parts", filter=RED_BIG)),
        {"Quito", "Sydney"},
    ),
    "list path": (match("parts[].size", 5), {"Berlin", "Sydney"}),
    "filter in filter": (
        models.Filter(should=[match("rank", 0), match("rank", 1)]),
        {"Berlin", "Potsdam"},
    ),
    "at least two": (
        models.Filter(
            min_should=models.MinShould(
                conditions=[match("open", True), match("tags", "a"), match("city", "Oslo")],
                min_count=2,
            )
        ),
        {"Paris", "Oslo"},
    ),
    "a clause that is no list": (
        models.Filter(must=match("open", True), must_not=match("city", "Paris")),
        {"Berlin", "Quito"},
    ),
    "empty filter": (models.Filter(), set(CITIES)),
}


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect")
@pytest.mark.parametrize("name", CONDITIONS)
@pytest.mark.parametrize("negated", [False, True])
def test_condition(galleries: tuple[Gallery, Gallery], name: str, negated: bool) -> None:
    condition, cities = CONDITIONS[name]
    filter = models.Filter(**{"must_not" if negated else "must": [condition]})
    expected = set(CITIES) - cities if negated else cities
    for gallery in galleries:
        hits = gallery.search(VectorQuery(VECTOR, filter))
        assert {hit.payload["city"] for hit in hits} == expected, gallery.name
        assert gallery.count(filter) == len(expected)


def test_none() -> None:
    assert to_edge(None) is None


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        (models.SliceCondition(slice=models.Slice(index=0, total=2)), "SliceCondition"),
        (match("bad [path", 1), "invalid JSON path"),
        (match("rank", 2**63), "cannot use this filter"),
        (match("city", "\ud800"), "cannot use this filter"),
        (models.HasIdCondition(has_id=["no-uuid"]), "cannot use this filter"),
    ],
    ids=["slice", "path", "65 bits", "half a character", "id"],
)
def test_what_the_engine_does_not_take(condition: Any, reason: str) -> None:
    with pytest.raises(BadFilter, match=reason) as caught:
        to_edge(models.Filter(must=[models.Filter(must_not=[condition])]))
    assert "\n" not in str(caught.value)
