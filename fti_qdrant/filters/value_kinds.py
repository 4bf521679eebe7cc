"""What payload fields hold and conditions ask for: numbers, texts, true or false, dates, places."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from qdrant_client import models

Kind = Literal["integer", "float", "text", "date", "bool", "place", "object"]

NAMES: dict[Kind, str] = {
    "integer": "numbers",
    "float": "numbers",
    "text": "texts",
    "date": "dates",
    "bool": "true or false",
    "place": "places",
    "object": "objects",
}
EXAMPLES, EXAMPLE_LENGTH = 3, 40
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
EARLIEST = datetime(1, 1, 1)
LEAST_FLOAT = -1.7e308
EARTH = 21_000_000
"""Meters; no place is farther from another."""


def kind_of(value: Any) -> Kind:
    """The kind of one payload value that is neither null nor a list.

    Example:
        >>> [kind_of(one) for one in (3, 2.5, True, "n/a", "2026-01-31", {"lon": 1, "lat": 2})]
        ['integer', 'float', 'bool', 'text', 'date', 'place']
    """
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "float"
    if isinstance(value, dict):
        return "place" if {"lon", "lat"} <= value.keys() else "object"
    return "date" if is_date(value) else "text"


def is_date(text: str) -> bool:
    """Whether a text is a date as Qdrant reads it."""
    if _DATE.match(text) is None:
        return False
    try:
        datetime.fromisoformat(text.upper().replace("Z", "+00:00"))
    except ValueError:
        return False
    return True


@dataclass(frozen=True)
class Asked:
    """What a condition asks for.

    Attributes:
        kinds: of values that it can match.
        words: such as ``a number (lt 50)``.
    """

    kinds: frozenset[Kind]
    words: str


def asked_of(condition: Any, *, strict: bool) -> Asked | None:
    """What a condition asks of its field.

    Args:
        strict: a match by an integer finds no floats, as Qdrant has it.

    None for what any value may fulfill, such as a count of values.
    """
    if not isinstance(condition, models.FieldCondition):
        return None
    if condition.match is not None:
        return _matched(condition.match, strict)
    bounds = condition.range
    if isinstance(bounds, models.DatetimeRange):
        return Asked(frozenset({"date"}), f"a date ({_bounds(bounds)})")
    if bounds is not None:
        return Asked(frozenset({"integer", "float"}), f"a number ({_bounds(bounds)})")
    if condition.geo_radius or condition.geo_bounding_box or condition.geo_polygon:
        return Asked(frozenset({"place"}), "a place")
    return None


def described(kinds: Iterable[Kind]) -> str:
    """Kinds in words.

    Example:
        >>> described(["integer", "float", "text"])
        'numbers and texts'
    """
    return " and ".join(sorted({NAMES[kind] for kind in kinds}))


def probe(key: str, kinds: frozenset[Kind]) -> models.Filter:
    """A filter that finds images with values of some kinds, as far as Qdrant can tell."""
    numbers = models.FieldCondition(key=key, range=models.Range(gte=LEAST_FLOAT))
    dates = models.FieldCondition(key=key, range=models.DatetimeRange(gte=EARLIEST))
    truths = [
        models.FieldCondition(key=key, match=models.MatchValue(value=one)) for one in (True, False)
    ]
    circle = models.GeoRadius(center=models.GeoPoint(lon=0, lat=0), radius=EARTH)
    found: list[Any] = []
    if kinds & {"integer", "float"}:
        found.append(numbers)
    if "date" in kinds:
        found.append(dates)
    if "bool" in kinds:
        found += truths
    if "place" in kinds:
        found.append(models.FieldCondition(key=key, geo_radius=circle))
    if "text" in kinds:  # there is no condition for any text
        empty = models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
        found.append(models.Filter(must_not=[numbers, dates, *truths, empty]))
    return models.Filter(should=found)


def shown(value: Any) -> str:
    """One value for a message, not too long."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= EXAMPLE_LENGTH else f"{text[: EXAMPLE_LENGTH - 3]}..."


def _matched(match: Any, strict: bool) -> Asked:
    values = [
        one
        for field in match.model_dump().values()
        for one in (field if isinstance(field, list) else [field])
    ]
    first = values[0] if values else ""
    if isinstance(first, bool):
        return Asked(frozenset({"bool"}), f"true or false ({shown(first)})")
    if isinstance(first, int):
        kinds: frozenset[Kind] = frozenset({"integer"} if strict else {"integer", "float"})
        return Asked(kinds, f"a number ({shown(first)})")
    odd = next((one for one in values if not is_date(str(one))), None)
    if odd is None:
        return Asked(frozenset({"text", "date"}), f"a text ({shown(first)})")
    return Asked(frozenset({"text"}), f"a text ({shown(odd)})")


def _bounds(bounds: Any) -> str:
    given = bounds.model_dump(exclude_none=True)
    if given.keys() == {"gte", "lte"} and given["gte"] == given["lte"]:
        return _plain(given["gte"])
    return ", ".join(f"{name} {_plain(given[name])}" for name in sorted(given))


def _plain(bound: Any) -> str:
    return bound.isoformat() if isinstance(bound, datetime) else f"{bound:.15g}"
