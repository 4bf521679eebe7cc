"""Filters against what a gallery holds: a type that cannot match is refused, never answered by [].

Every gallery answers alike: embedded with and without payload indexes, and qdrant-client's own.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterator
from datetime import date, datetime, timezone
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from fti_qdrant.errors import BadFilter, BadQuery
from fti_qdrant.filters.stored_fields import StoredFields
from fti_qdrant.gallery import (
    EdgeGallery,
    Gallery,
    GalleryPoint,
    GallerySpec,
    ServerGallery,
    point_id,
)
from fti_qdrant.model.fingerprint import Fingerprint

VECTOR = np.ones(4, np.float32)
STAMP = 1768907445451174113
COUNT = 40
INDEXES = {
    "price": "keyword",
    "stock": "integer",
    "weight": "float",
    "new": "bool",
    "since": "datetime",
    "stamp": "integer",
}


def payload(number: int) -> dict[str, Any]:
    return {
        "price": "n/a" if number == 7 else f"{number}.50",
        "stock": number % 5,
        "weight": number + 0.5,
        "new": number % 2 == 0,
        "since": f"2026-01-{number % 28 + 1:02d}T12:00:00Z",
        "stamp": STAMP + number - 20,
        "tags": [["a", "b"], [1, 2], []][number % 3],
        "mixed": "unknown" if number % 2 else number,
        "at": {"lon": 13.4, "lat": 52.5},
        "shelf": {"row": number, "label": f"shelf {number}"},
        "parts": [{"size": number, "color": "red"}],
        "seldom": 3.5 if number == 11 else "none",
        "list price.net": number,
        "a.b": number % 4,
        'say "hi"': number % 3,
        "back\\slash": "x" if number % 2 else "y",
        "a[0]": number,
        "never": None,
    }


@pytest.fixture(scope="module", params=["edge", "edge with indexes", "local mode"])
def gallery(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gallery]:
    fingerprint = Fingerprint("tiny", "0", "GELU", "targetpad", len(VECTOR))
    indexes = INDEXES if "indexes" in request.param else {}
    spec = GallerySpec(fingerprint=fingerprint, indexes=indexes)  # type: ignore[arg-type]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made: Gallery
        if request.param == "local mode":
            made = ServerGallery.create(QdrantClient(":memory:"), "fields", spec)
        else:
            made = EdgeGallery.create(tmp_path_factory.mktemp("fields") / "gallery", spec)
    made.upsert(
        [GalleryPoint(point_id(str(number)), VECTOR, payload(number)) for number in range(COUNT)]
    )
    yield made
    made.close()


@pytest.fixture
def fields(gallery: Gallery) -> StoredFields:
    return StoredFields(gallery)


def field(key: str, **condition: Any) -> models.Filter:
    return models.Filter(must=[models.FieldCondition(key=key, **condition)])


TEXTS = "holds texts, and cannot be compared with"
NUMBERS = "holds numbers, and cannot be compared with"
DATES = "holds dates, and cannot be compared with"
BOOLS = "holds true or false, and cannot be compared with"
MISMATCHES: list[tuple[Any, str]] = [
    # a number asked of texts, by every operator
    *(
        ({"price": condition}, f"price: {TEXTS} a number")
        for condition in (
            *(50, 50.5, {"eq": 50}, {"ne": 50}, [50, 60], {"in": [50]}, {"not_in": [50]}),
            *({"lt": 50}, {"gte": 10, "lt": 50.5}, {"gt": STAMP}, STAMP, ["n/a", 50]),
        )
    ),
    ({"price": {"gte": 10, "lt": 50}}, "a number (gte 10, lt 50)"),
    ({"price": 50}, "a number (50)"),
    ({"price": {"lt": 50}}, "its values are like '"),
    ({"not": {"or": [{"price": {"lt": 50}}]}}, f"price: {TEXTS} a number (lt 50)"),
    ({"price": True}, f"price: {TEXTS} true or false (true)"),
    ({"price": {"lt": "2026-01-31"}}, f"price: {TEXTS} a date (lt 2026-01-31T00:00:00)"),
    # of numbers
    *(
        ({name: condition}, f"{name}: {NUMBERS} {asked}")
        for name in ("stock", "weight", "stamp")
        for condition, asked in (
            ("3", "a text ('3')"),
            (["3", "4"], "a text ('3')"),
            ({"ne": "n/a"}, "a text ('n/a')"),
            ({"not_in": ["n/a"]}, "a text ('n/a')"),
            (False, "true or false (false)"),
            ({"gt": date(2026, 1, 31)}, "a date (gt 2026-01-31T00:00:00)"),
            ({"lte": "2026-01-31T12:00:00Z"}, "a date (lte"),
        )
    ),
    # of truths
    ({"new": 1}, f"new: {BOOLS} a number (1)"),
    ({"new": {"gte": 0}}, f"new: {BOOLS} a number (gte 0)"),
    ({"new": "true"}, f"new: {BOOLS} a text ('true')"),
    ({"new": {"lt": "2026-01-31"}}, f"new: {BOOLS} a date"),
    # of dates
    ({"since": 2026}, f"since: {DATES} a number (2026)"),
    ({"since": {"lt": 5}}, f"since: {DATES} a number (lt 5)"),
    ({"since": True}, f"since: {DATES} true or false (true)"),
    ({"since": "Acme"}, f"since: {DATES} a text ('Acme')"),
    ({"since": ["2026-01-05T12:00:00Z", "Acme"]}, f"since: {DATES} a text ('Acme')"),
    # of objects, and inside them
    ({"shelf": 3}, "shelf: holds objects, and cannot be compared with a number (3)"),
    ({"shelf": "x"}, "fields inside it are: label, row"),
    ({"shelf.row": "x"}, f"shelf.row: {NUMBERS} a text ('x')"),
    ({"shelf.label": {"gt": 3}}, f"shelf.label: {TEXTS} a number (gt 3)"),
    ({"at": 3}, "at: holds places, and cannot be compared with a number (3)"),
    ({"parts[].size": "x"}, f"parts[].size: {NUMBERS} a text ('x')"),
    ({"tags": True}, "tags: holds numbers and texts, and cannot be compared with true or false"),
    ({"tags": {"gt": "2026-01-31"}}, "tags: holds numbers and texts, and cannot be compared"),
    # by ready filters
    (field("price", match=models.MatchValue(value=5)), f"price: {TEXTS} a number (5)"),
    (field("price", match=models.MatchAny(any=[5, 6])), f"price: {TEXTS} a number (5)"),
    (
        field("price", match=models.MatchExcept(**{"except": [5]})),
        f"price: {TEXTS} a number (5)",
    ),
    (field("stock", match=models.MatchText(text="a b")), f"stock: {NUMBERS} a text ('a b')"),
    (
        field("stock", match=models.MatchExcept(**{"except": ["x"]})),
        f"stock: {NUMBERS} a text ('x')",
    ),
    (field("price", range=models.Range(gte=1)), f"price: {TEXTS} a number (gte 1)"),
    (
        field("stock", range=models.DatetimeRange(gt=datetime(2026, 1, 1, tzinfo=timezone.utc))),
        f"stock: {NUMBERS} a date (gt 2026-01-01T00:00:00+00:00)",
    ),
    (
        field("price", geo_radius=models.GeoRadius(center={"lon": 1, "lat": 2}, radius=5)),
        f"price: {TEXTS} a place",
    ),
    (field("weight", match=models.MatchValue(value=5)), "weight: holds numbers with fractions"),
    (
        models.Filter(
            must=[
                models.NestedCondition(
                    nested=models.Nested(key="parts", filter=field("color", range={"lt": 3}))
                )
            ]
        ),
        f"parts[].color: {TEXTS} a number (lt 3)",
    ),
    (field("stamp", range=models.Range(gt=STAMP)), "stamp: gt 1768907445451174144 is beyond 2**53"),
    (
        field("stamp", range=models.Range(gte=1, lte=STAMP)),
        "stamp: lte 1768907445451174144 is beyond 2**53",
    ),
    # names
    ({'say "hi"': "x"}, f"say \"hi\": {NUMBERS} a text ('x')"),
    ({"a.b": "x"}, f"\"a.b\": {NUMBERS} a text ('x')"),
    ({"colour": "red"}, "colour: no image has this field; fields are: a.b, a[0], at, back\\slash"),
    ({"never": 5}, "never: no image has this field"),
    ({"colour": {"exists": True}}, "colour: no image has this field"),
    ({"not": {"colour": None}}, "colour: no image has this field"),
    ({"shelf.column": 3}, "shelf.column: no image has this field"),
    ({"a..b": 3}, '"a..b": no image has this field'),
    ({'no "such"': 3}, "'no \"such\"' is not the path of a payload field"),
]


@pytest.mark.parametrize(("spec", "message"), MISMATCHES, ids=[str(one) for one, _ in MISMATCHES])
def test_what_cannot_match_is_refused(fields: StoredFields, spec: Any, message: str) -> None:
    with pytest.raises(BadFilter) as caught:
        fields.checked(spec)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def mixed(number: int) -> Any:
    return payload(number)["mixed"]


MATCHES: list[tuple[Any, Any]] = [
    ({"price": "7.50"}, lambda n: False),
    ({"price": ["n/a", "8.50"]}, lambda n: n in (7, 8)),
    ({"price": {"ne": "n/a"}}, lambda n: n != 7),
    ({"stock": {"gte": 2}}, lambda n: n % 5 >= 2),
    ({"stock": 3.0}, lambda n: n % 5 == 3),
    ({"new": True}, lambda n: n % 2 == 0),
    ({"since": {"lt": "2026-01-05"}}, lambda n: n % 28 < 4),
    ({"since": "2026-01-05T12:00:00Z"}, lambda n: n % 28 == 4),
    ({"tags": 1}, lambda n: n % 3 == 1),
    ({"tags": "b"}, lambda n: n % 3 == 0),
    ({"mixed": {"gt": 5}}, lambda n: n % 2 == 0 and n > 5),
    ({"mixed": "unknown"}, lambda n: n % 2 == 1),
    ({"seldom": {"lt": 4}}, lambda n: n == 11),
    ({"stamp": {"gt": STAMP}}, lambda n: n > 20),
    ({"stamp": {"gte": STAMP - 1, "lt": STAMP + 2}}, lambda n: 19 <= n < 22),
    ({"stamp": STAMP}, lambda n: n == 20),
    ({"stamp": {"ne": STAMP}}, lambda n: n != 20),
    ({"shelf.row": {"lt": 4}}, lambda n: n < 4),
    ({"parts[].size": [1, 2]}, lambda n: n in (1, 2)),
    ({"colour": None}, lambda n: True),
    ({"colour": {"exists": False}}, lambda n: True),
    ({"never": None}, lambda n: True),
    # names with anything in them, as the list of fields shows them
    ({"list price.net": 5}, lambda n: n == 5),
    ({'"list price.net"': {"lt": 5}}, lambda n: n < 5),
    ({"a.b": {"gte": 2}}, lambda n: n % 4 >= 2),
    ({'"a.b"': 3}, lambda n: n % 4 == 3),
    ({"a[0]": [1, 2]}, lambda n: n in (1, 2)),
    ({'say "hi"': 2}, lambda n: n % 3 == 2),
    ({'say "hi"': {"gt": 0, "ne": 2}}, lambda n: n % 3 == 1),
    ({"not": {'say "hi"': [1, 2]}}, lambda n: n % 3 == 0),
    ({'say "hi"': {"exists": True}}, lambda n: True),
    ({"back\\slash": "x", "stock": 2}, lambda n: n % 2 == 1 and n % 5 == 2),
    # ready filters
    (field("stock", match=models.MatchValue(value=3)), lambda n: n % 5 == 3),
    (field("weight", range=models.Range(lt=1e300)), lambda n: True),
    (
        field("at", geo_radius=models.GeoRadius(center={"lon": 13.4, "lat": 52.5}, radius=9)),
        lambda n: True,
    ),
    (field("price", match=models.MatchText(text="n/a")), lambda n: n == 7),
    (models.Filter(must=[models.HasIdCondition(has_id=[point_id("3")])]), lambda n: n == 3),
]


@pytest.mark.parametrize(("spec", "holds"), MATCHES, ids=[str(one) for one, _ in MATCHES])
def test_what_can_match_is_answered(fields: StoredFields, spec: Any, holds: Any) -> None:
    for _ in range(2):  # the second time from memory
        filter = fields.checked(spec)
        found = {image["shelf"]["row"] for image in fields.gallery.sample(filter, COUNT)}
        if spec == {"price": "7.50"}:
            assert found == set()
        else:
            assert found == {number for number in range(COUNT) if holds(number)}


def test_nothing_to_check(fields: StoredFields) -> None:
    assert fields.checked(None) is None
    assert fields.checked({}) is None


def test_values_that_come_later_count(tmp_path: Any, gallery: Gallery) -> None:
    with EdgeGallery.create(tmp_path / "growing", gallery.spec) as growing:
        fields = StoredFields(growing)
        with pytest.raises(BadQuery, match="is empty; fill it with fti-ingest"):
            fields.checked({"size": 5})
        growing.upsert([GalleryPoint(str(uuid.UUID(int=1)), VECTOR, {"size": "large"})])
        with pytest.raises(BadFilter, match="size: holds texts"):
            fields.checked({"size": 5})
        growing.upsert([GalleryPoint(str(uuid.UUID(int=2)), VECTOR, {"size": 5})])
        assert growing.count(fields.checked({"size": 5})) == 1
        with pytest.raises(BadFilter, match="size: holds numbers and texts, and cannot be"):
            fields.checked({"size": True})


def test_a_value_beyond_the_sample_is_found(tmp_path: Any, gallery: Gallery) -> None:
    points = [
        GalleryPoint(str(uuid.UUID(int=number + 1)), VECTOR, {"size": "large"})
        for number in range(300)
    ]
    last = {"size": 5, "kind": "x"}
    with EdgeGallery.create(tmp_path / "large", gallery.spec) as large:
        large.upsert([*points, GalleryPoint(str(uuid.UUID(int=999)), VECTOR, last)])
        assert large.count(StoredFields(large).checked({"size": {"gt": 4}})) == 1
        large.upsert([GalleryPoint(str(uuid.UUID(int=999)), VECTOR, {"size": True})])
        assert large.count(StoredFields(large).checked({"size": True})) == 1
        large.upsert([GalleryPoint(str(uuid.UUID(int=999)), VECTOR, {"size": "2026-01-05"})])
        assert large.count(StoredFields(large).checked({"size": {"gt": "2026-01-01"}})) == 1


def test_a_name_that_qdrant_cannot_read_is_looked_for_in_small_galleries(
    fields: StoredFields, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fti_qdrant.filters.stored_fields.MOST_READ", COUNT - 1)
    with pytest.raises(BadFilter, match="more than 39 images to read one by one; rename the field"):
        fields.checked({'say "hi"': 2})
