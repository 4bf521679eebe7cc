"""The grammar of filters: what it means, and how it refuses.

What it means is checked three ways: an evaluator of a few lines, Qdrant's own engine with and
without payload indexes, and qdrant-client's local mode must all find the same images.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from datetime import date, datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qdrant_client import QdrantClient, models

from fti_qdrant.errors import BadFilter
from fti_qdrant.filters.conditions import field_uses, replaced
from fti_qdrant.filters.grammar import as_filter, both
from fti_qdrant.gallery import (
    EdgeGallery,
    Gallery,
    GalleryPoint,
    GallerySpec,
    ServerGallery,
    VectorQuery,
)
from fti_qdrant.model.fingerprint import Fingerprint

IDS = [str(uuid.UUID(int=number + 1)) for number in range(6)]
VECTOR = np.ones(4, np.float32)


# --- the slow evaluator


def values_at(payload: Any, key: str) -> list[Any]:
    for name in key.split("."):
        payload = payload.get(name) if isinstance(payload, dict) else None
    if isinstance(payload, list):
        return payload
    return [] if payload is None else [payload]


def is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def equal(value: Any, wanted: Any) -> bool:
    if is_number(value) and is_number(wanted):
        return bool(value == wanted)
    return type(value) is type(wanted) and value == wanted


def instant(value: Any) -> datetime | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value.replace("Z", "+00:00"))
        except ValueError:
            return None
    if isinstance(value, datetime):
        return value if value.tzinfo else value.replace(tzinfo=timezone.utc)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=timezone.utc)
    return None


COMPARE = {
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
}


def within(value: Any, bounds: Mapping[str, Any]) -> bool:
    if all(is_number(bound) for bound in bounds.values()):
        return is_number(value) and all(COMPARE[op](value, b) for op, b in bounds.items())
    at = instant(value)
    return at is not None and all(COMPARE[op](at, instant(b)) for op, b in bounds.items())


def holds(payload: Any, filter: Mapping[str, Any]) -> bool:
    return all(holds_one(payload, key, condition) for key, condition in filter.items())


def holds_one(payload: Any, key: str, condition: Any) -> bool:
    if key in ("and", "or"):
        return (all if key == "and" else any)(holds(payload, part) for part in condition)
    if key == "not":
        return not holds(payload, condition)
    values = values_at(payload, key)
    if condition is None:
        return not values
    if isinstance(condition, list):
        condition = {"in": condition}
    elif not isinstance(condition, dict):
        condition = {"eq": condition}
    bounds = {op: condition[op] for op in COMPARE if op in condition}
    return (
        (not bounds or any(within(value, bounds) for value in values))
        and ("exists" not in condition or condition["exists"] == bool(values))
        and all(
            any(equal(value, one) for value in values for one in wanted) == (op in ("eq", "in"))
            for op, wanted in (
                (op, condition[op] if op in ("in", "not_in") else [condition[op]])
                for op in ("eq", "in", "ne", "not_in")
                if op in condition
            )
        )
    )


# --- random payloads and filters

TEXTS = st.sampled_from(["", "Acme", "acme", "1", "true", "été", "blue jeans"])
STAMP = 1768907445451174113
"""Nanoseconds; floats near it are 256 apart."""
BASES = (2**53, 2**62, STAMP, -(2**53), -(2**62), -STAMP)
LARGE = st.sampled_from([base + step for base in BASES for step in (-1, 0, 1)])
WHOLE = st.integers(-2, 3) | st.sampled_from([2**40, 2**63 - 1, -(2**63)]) | LARGE
REAL = st.sampled_from([-2.0, -0.5, 0.0, 0.5, 1.0, 2.5, 3.0, 2.0**53, float(STAMP), 2.0**62])
DATES = st.sampled_from(
    ["2026-01-05", "2026-01-05T12:00:00", "2026-01-05T12:00:00Z", "2026-01-05T12:30:00+02:00"]
)
SCALARS = TEXTS | WHOLE | REAL | st.booleans() | DATES


def often(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A value, a list of values, or nothing in one of its forms."""
    return strategy | st.lists(strategy, max_size=3) | st.none()


PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "any": often(SCALARS),
        "brand": often(TEXTS),
        "stock": often(WHOLE),
        "price": often(WHOLE | REAL),
        "new": often(st.booleans()),
        "since": often(DATES),
        "blank in name": often(SCALARS),
        "size": st.fixed_dictionaries({}, optional={"width": often(WHOLE), "note": often(TEXTS)}),
    },
)
FIELDS = st.sampled_from(
    [
        *("any", "any", "brand", "new"),
        *("blank in name", "size.note", "size.depth"),
    ]
)
INSTANTS = DATES | st.sampled_from(
    [date(2026, 1, 5), datetime(2026, 1, 5, 12), datetime(2026, 1, 5, 12, tzinfo=timezone.utc)]
)


def bounds(strategy: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.dictionaries(st.sampled_from(list(COMPARE)), strategy, min_size=1, max_size=2)


MANY = st.lists(SCALARS, min_size=1, max_size=3)
NUMBERS = bounds(WHOLE | REAL)
OPERATORS = st.one_of(
    NUMBERS,
    bounds(INSTANTS),
    st.fixed_dictionaries(
        {}, optional={"eq": SCALARS, "ne": SCALARS, "exists": st.booleans(), "not_in": MANY}
    ).filter(bool),
    st.fixed_dictionaries({"in": MANY}, optional={"gt": REAL, "ne": SCALARS}),
)
CONDITIONS = SCALARS | st.none() | MANY | OPERATORS
# indexes hold dates as numbers, and compare one with the other; ``StoredFields`` refuses that
OF_DATES = DATES | st.none() | st.lists(DATES | TEXTS, min_size=1, max_size=3) | bounds(INSTANTS)
OF_NUMBERS = SCALARS | st.none() | MANY | NUMBERS
FILTERS = st.recursive(
    st.dictionaries(FIELDS, CONDITIONS, min_size=1, max_size=2)
    | st.fixed_dictionaries({"since": OF_DATES}, optional={"stock": OF_NUMBERS})
    | st.fixed_dictionaries({"price": OF_NUMBERS}, optional={"size.width": OF_NUMBERS}),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"or": st.lists(inner, min_size=1, max_size=2)}),
        st.fixed_dictionaries({"not": inner}, optional={"brand": TEXTS}),
    ),
    max_leaves=4,
)
INDEXES = {
    "brand": "keyword",
    "stock": "integer",
    "price": "float",
    "new": "bool",
    "since": "datetime",
    "size.width": "integer",
}


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Gallery]]:
    fingerprint = Fingerprint("tiny", "0123456789abcdef", "GELU", "targetpad", len(VECTOR))
    plain = GallerySpec(fingerprint=fingerprint)
    indexed = GallerySpec(fingerprint=fingerprint, indexes=INDEXES)  # type: ignore[arg-type]
    folder: Path = tmp_path_factory.mktemp("engines")
    made: dict[str, Gallery] = {
        "edge": EdgeGallery.create(folder / "plain", plain),
        "edge with indexes": EdgeGallery.create(folder / "indexed", indexed),
        "local mode": ServerGallery.create(QdrantClient(":memory:"), "filters", plain),
    }
    yield made
    for gallery in made.values():
        gallery.close()


@pytest.mark.filterwarnings("ignore:Payload indexes have no effect")
@settings(max_examples=150, deadline=None)
@given(payloads=st.lists(PAYLOADS, min_size=6, max_size=6), filter=FILTERS)
def test_all_engines_find_what_the_grammar_says(
    engines: dict[str, Gallery], payloads: list[dict[str, Any]], filter: dict[str, Any]
) -> None:
    expected = [id for id, payload in zip(IDS, payloads) if holds(payload, filter)]
    points = [GalleryPoint(id, VECTOR, payload) for id, payload in zip(IDS, payloads)]
    query = VectorQuery(VECTOR, as_filter(filter), limit=len(IDS))
    found = {}
    for name, gallery in engines.items():
        gallery.upsert(points)
        found[name] = [hit.id for hit in gallery.search(query)]
    assert found == dict.fromkeys(engines, expected)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5) | DATES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text(max_size=4) | st.sampled_from(["and", "or", "not", "in", "lt", "exists", "eq"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(spec=JSON)
def test_anything_else_is_a_filter_that_works_or_bad_filter(
    engines: dict[str, Gallery], spec: Any
) -> None:
    try:
        filter = as_filter(spec)
        count = engines["edge"].count(filter)
    except BadFilter:
        return
    assert 0 <= count <= len(IDS)


# --- what it refuses


@pytest.mark.parametrize(
    ("spec", "place", "reason"),
    [
        ({"price": {"lt": 50, "below": 1}}, "price", "unknown operator 'below'; use one of eq"),
        ({"price": {}}, "price", "names no operator"),
        ({"price": {"lt": "cheap"}}, "price.lt", "a number or a date such as"),
        ({"price": {"lt": None}}, "price.lt", "got None"),
        ({"price": {"lt": True}}, "price.lt", "got True"),
        ({"price": {"gte": 1, "lt": "2026-01-01"}}, "price.gte", "got 1"),
        ({"price": {"lt": float("nan")}}, "price.lt", "nan is not a finite number"),
        ({"price": {"lt": 10**400}}, "price.lt", "64 bits"),
        ({"price": float("inf")}, "price", "inf is not a finite number"),
        ({"price": 2**63}, "price", "64 bits"),
        ({"price": [1, 2**63]}, "price[1]", "64 bits"),
        ({"brand": []}, "brand", "a list of at least one value"),
        ({"brand": {"in": "Acme"}}, "brand.in", "a list of at least one value, got 'Acme'"),
        ({"brand": {"not_in": []}}, "brand.not_in", "at least one"),
        ({"brand": ["Acme", None]}, "brand[1]", "not NoneType None"),
        ({"brand": ["Acme", ["Borg"]]}, "brand[1]", "not list"),
        ({"brand": {"eq": ["Acme"]}}, "brand.eq", "not list"),
        ({"brand": {"ne": {"a": 1}}}, "brand.ne", "not dict"),
        ({"brand": b"Acme"}, "brand", "not bytes"),
        ({"brand": {"exists": "yes"}}, "brand.exists", "true or false, got 'yes'"),
        ({"brand": {"exists": 1}}, "brand.exists", "true or false, got 1"),
        ({"not": [{"brand": "Acme"}]}, "not", "takes one filter"),
        ({"not": {}}, "not", "takes one filter"),
        ({"or": {"brand": "Acme"}}, "or", "takes a list of filters"),
        ({"or": []}, "or", "takes a list of filters"),
        ({"and": [{"brand": "Acme"}, {}]}, "and", "takes a list of filters"),
        ({"and": "Acme"}, "and", "takes a list of filters"),
        ({"or": [{"a": 1}, {"b": {"lt": []}}]}, "or[1].b.lt", "got []"),
        ({"not": {"or": [{"b": {"like": "x"}}]}}, "not.or[0].b", "unknown operator 'like'"),
        ({1: "Acme"}, "filter", "the name of a payload field, not 1"),
        ({"": "Acme"}, "filter", "the name of a payload field, not ''"),
        ({"not": {"": 1}}, "not", "the name of a payload field, not ''"),
        ({"a..b": 1}, "a..b", "not the path of a payload field"),
        ({'say "hi"': 1}, 'say "hi"', "not the path of a payload field"),
        ("brand=Acme", "a filter must be a mapping", "not str"),
        ([{"brand": "Acme"}], "a filter must be a mapping", "not list"),
    ],
    ids=str,
)
def test_errors_point_at_the_key(spec: Any, place: str, reason: str) -> None:
    with pytest.raises(BadFilter) as caught:
        as_filter(spec)
    message = str(caught.value)
    assert message.startswith(f"{place}: " if ":" not in place and " must" not in place else place)
    assert reason in message
    assert "\n" not in message


def test_nothing_is_no_filter() -> None:
    assert as_filter(None) is None
    assert as_filter({}) is None


def test_a_ready_filter_passes_as_it_is() -> None:
    ready = models.Filter(must=[models.HasIdCondition(has_id=IDS[:1])])
    assert as_filter(ready) is ready


def test_both(engines: dict[str, Gallery]) -> None:
    payloads = [{"brand": "Acme", "stock": number} for number in range(6)]
    engines["edge"].upsert([GalleryPoint(id, VECTOR, p) for id, p in zip(IDS, payloads)])
    few, many = as_filter({"stock": {"lt": 4}}), as_filter({"stock": {"gt": 1}})
    assert engines["edge"].count(both(few, many)) == 2
    assert both(few, None) is few
    assert both(None, many) is many
    assert both(None, None) is None


def test_field_uses() -> None:
    spec = {"a": 1, "not": {"b.c": ["x"]}, "or": [{"d": {"gt": 1}}, {"and": [{"e f": True}]}]}
    uses = [(use.key, use.negated) for use in field_uses(as_filter(spec))]
    assert uses == [("a", False), ("d", False), ('"e f"', False), ("b.c", True)]
    doubly = as_filter({"not": {"a": {"ne": 1}, "b": None}})
    assert [(use.key, use.negated) for use in field_uses(doubly)] == [("b", True), ("a", False)]
    nested = models.NestedCondition(
        nested=models.Nested(key="parts", filter=models.Filter(must=as_filter({"x": 1}).must))  # type: ignore[union-attr]
    )
    either = models.MinShould(conditions=[nested], min_count=1)
    assert [use.key for use in field_uses(models.Filter(min_should=either))] == ["parts[].x"]
    assert [use.key for use in field_uses(models.Filter(must=as_filter({"a": 1})))] == ["a"]
    assert list(field_uses(None)) == []


def test_replaced_keeps_what_it_does_not_change() -> None:
    spec = {"a": 1, "not": {"b": ["x", 2]}, "or": [{"c": None}, {"d": {"lt": 2**60}}]}
    filter = as_filter(spec)
    assert replaced(filter, lambda condition: condition) == filter
    either = models.MinShould(conditions=[models.HasIdCondition(has_id=IDS[:1])], min_count=1)
    several = models.Filter(min_should=either, must=models.Filter(should=[]))
    changed = replaced(several, lambda condition: models.HasIdCondition(has_id=IDS[1:2]))
    assert changed.min_should.conditions[0].has_id == IDS[1:2]


@pytest.mark.parametrize("step", [-200, -3, 0, 1, 150])
def test_nanoseconds_are_compared_exactly(engines: dict[str, Gallery], step: int) -> None:
    stamps = [STAMP - 3 + number for number in range(6)]
    bound = STAMP + step
    for name, gallery in engines.items():
        gallery.upsert(
            [
                GalleryPoint(id, VECTOR, {"stock": stamp, "any": stamp})
                for id, stamp in zip(IDS, stamps)
            ]
        )
        for field in ("stock", "any"):
            for operator, compare in COMPARE.items():
                found = gallery.count(as_filter({field: {operator: bound}}))
                assert found == sum(compare(stamp, bound) for stamp in stamps), (name, operator)
            assert gallery.count(as_filter({field: bound})) == stamps.count(bound)
            within = as_filter({field: {"gt": STAMP - 2, "lte": STAMP + 1}})
            assert gallery.count(within) == 3
