"""Comparisons with integers beyond 2**53, which Qdrant's ranges would compare as floats.

A range takes floats, of which only each 256th whole number is one near 2**60. Matches compare
integers exactly. So a comparison becomes: a range from the next float on that is safely inside, or
a match of one of the integers before it. Both hold with and without a payload index.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qdrant_client import models

EXACT = 2**53
"""Floats below it, in either direction, are as exact as integers."""

LEAST, MOST = -(2**63), 2**63 - 1
"""Qdrant's integers."""

NEAR = 2048
"""More than the distance of an integer of 64 bits to a float that rounds to another one."""

COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
}

Number = int | float


def is_large(bound: Number) -> bool:
    """Whether a range with this bound may take some integers for others.

    Example:
        >>> is_large(2**53), is_large(2**53 - 1)
        (True, False)
    """
    return abs(bound) >= EXACT


def number_range(key: str, bounds: Mapping[str, Number]) -> models.Condition:
    """A condition that a number lies within bounds, each compared exactly.

    Args:
        bounds: ``lt``, ``lte``, ``gt``, ``gte`` -> finite number.

    Example:
        >>> number_range("t", {"gte": 5}).range.gte
        5.0
        >>> stamps = number_range("t", {"gt": 1768907445451174113}).should
        >>> stamps[0].must[0].range.gte, stamps[1].match.any[0]
        (1.7689074454511744e+18, 1768907445451174114)
    """
    large = {name: int(bound) for name, bound in bounds.items() if is_large(bound)}
    if not large:
        return _range(key, bounds)
    inner: dict[str, Number] = {n: bound for n, bound in bounds.items() if n not in large}
    integers: set[int] = set()
    floats: set[float] = set()
    lows = [bound + (name == "gt") for name, bound in large.items() if name[0] == "g"]
    highs = [bound - (name == "lt") for name, bound in large.items() if name[0] == "l"]
    if lows:
        first, inner["gte"] = _floats_from(max(lows))
        integers.update(_integers(max(lows), _whole(inner["gte"]) - 1))
        floats.add(first)
    if highs:
        last, inner["lte"] = (-one for one in _floats_from(-min(highs)))
        integers.update(_integers(_whole(inner["lte"]) + 1, min(highs)))
        floats.add(last)
    integers.update(_ends(*large.values()))
    inside = sorted(one for one in integers if _holds(one, bounds))
    parts = [_between(key, inner, bounds), _any_of(key, inside)]
    floats = {one for one in floats if math.isfinite(one) and _holds(one, bounds)}
    parts += [_equals(key, one, bounds) for one in sorted(floats)]
    given: list[Any] = [part for part in parts if part is not None]
    return models.Filter(should=given or [_range(key, {"gt": 0, "lt": 0})])


def equals(key: str, value: Number) -> models.Condition:
    """A condition that a number is equal to another, be they stored as integers or as floats."""
    return number_range(key, {"gte": value, "lte": value})


def _equals(key: str, value: float, bounds: Mapping[str, Number]) -> models.Filter:
    """A float, without the integers that a range takes for it and that are out of bounds."""
    near = _integers(int(value) - NEAR, int(value) + NEAR)
    others = [one for one in near if float(one) == value and not _holds(one, bounds)]
    others += [one for one in _ends(value) if one not in others and not _holds(one, bounds)]
    return _without(_range(key, {"gte": value, "lte": value}), _any_of(key, others))


def _between(
    key: str, inner: Mapping[str, Number], bounds: Mapping[str, Number]
) -> models.Condition | None:
    """The range that is safely inside the bounds; None where there is none."""
    low = max((bound for name, bound in inner.items() if name[0] == "g"), default=-math.inf)
    high = min((bound for name, bound in inner.items() if name[0] == "l"), default=math.inf)
    if low > high or low == math.inf or high == -math.inf:
        return None
    ends = [one for one in _ends(*inner.values()) if not _holds(one, bounds)]
    return _without(_range(key, inner), _any_of(key, ends))


def _ends(*bounds: Number) -> tuple[int, ...]:
    """The integers that an index of integers takes for any bound beyond them."""
    return (LEAST, MOST) if max(map(abs, bounds)) > MOST - NEAR else ()


def _integers(first: int, last: int) -> range:
    return range(max(first, LEAST), min(last, MOST) + 1)


def _any_of(key: str, integers: list[int]) -> models.FieldCondition | None:
    match = models.MatchAny(any=integers)
    return models.FieldCondition(key=key, match=match) if integers else None


def _without(
    condition: models.FieldCondition, unwanted: models.FieldCondition | None
) -> models.Filter:
    return models.Filter(must=[condition], must_not=[unwanted] if unwanted else None)


def _range(key: str, bounds: Mapping[str, Number]) -> models.FieldCondition:
    return models.FieldCondition(key=key, range=models.Range(**bounds))


def _holds(value: Number, bounds: Mapping[str, Number]) -> bool:
    """Python compares integers with floats exactly."""
    return all(COMPARE[name](value, bound) for name, bound in bounds.items())


def _floats_from(integer: int) -> tuple[float, float]:
    """The least float that is not below an integer, and the next one."""
    found = float(integer)
    first = found if int(found) >= integer else math.nextafter(found, math.inf)
    return first, math.nextafter(first, math.inf)


def _whole(bound: Number) -> int:
    return int(bound) if math.isfinite(bound) else int(math.copysign(2**64, bound))


def large_bounds(condition: models.FieldCondition) -> Iterator[tuple[str, float]]:
    """The bounds of a ready range by name that ``number_range`` would have taken apart."""
    if isinstance(condition.range, models.Range):
        for name, bound in condition.range.model_dump(exclude_none=True).items():
            if is_large(bound):
                yield name, bound
