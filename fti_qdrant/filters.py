"""Plain mappings as filters, ``{"brand": "Acme", "price": {"lt": 50}}`` -> qdrant ``Filter``.

The grammar::

    filter     = { key: condition, ... }       every entry must match
    condition  = scalar                        equal to (of a list field: contains)
               | null                          the field is missing or empty
               | [ scalar, ... ]               equal to any of these
               | { operator: operand, ... }    every operator must match
    operator   = "eq" | "ne"                   scalar
               | "in" | "not_in"               [ scalar, ... ]
               | "lt" | "lte" | "gt" | "gte"   number, or a date as datetime or ISO 8601 text
               | "exists"                      true | false
    scalar     = text | integer | float | true | false

Three keys are not fields: ``"and"`` and ``"or"`` take a list of filters, ``"not"`` one filter.
Dots separate nested fields, ``"size.width"``; a name that contains a dot is quoted, ``'"a.b"'``.
For everything else (geo, nested arrays, full text) pass a ``qdrant_client.models.Filter``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

from qdrant_client import models

from fti_qdrant.errors import BadFilter

FilterLike = Mapping[str, Any] | models.Filter

RANGE = ("lt", "lte", "gt", "gte")
OPERATORS = ("eq", "ne", "in", "not_in", *RANGE, "exists")
LOGIC = ("and", "or", "not")

_SEGMENT = r'(?:[\w-]+|"[^"]+")(?:\[\d*\])*'
_PATH = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")
"""What Qdrant parses as a path into the payload; any other name must be quoted."""


def as_filter(spec: FilterLike | None) -> models.Filter | None:
    """A mapping of the grammar above, or a ready Filter, or None -> Filter or None.

    Example:
        >>> as_filter({"price": {"lt": 50}}).must[0].range.lt
        50.0

    Raises BadFilter, which names the key at fault.
    """
    if spec is None or isinstance(spec, models.Filter):
        return spec
    if not isinstance(spec, Mapping):
        raise BadFilter(
            f"a filter must be a mapping such as {{'brand': 'Acme'}}, not {type(spec).__name__}"
        )
    return _group(spec, "filter") if spec else None


def both(first: models.Filter | None, second: models.Filter | None) -> models.Filter | None:
    """A filter that requires both; None stands for no filter."""
    if first is None or second is None:
        return first or second
    return models.Filter(must=[first, second])


def field_keys(filter: models.Filter | None) -> Iterator[str]:
    """The payload fields that a Filter uses; of nested conditions, the outer field."""
    for condition in _field_conditions(filter):
        outer = condition.nested if isinstance(condition, models.NestedCondition) else condition
        yield outer.key


def check_ranges(filter: models.Filter | None, indexes: Mapping[str, str]) -> None:
    """Raises BadFilter where a field indexed as numbers is compared with a date, or the reverse.

    Qdrant's indexes would compare the two, with a date as a number of microseconds.
    """
    for condition in _field_conditions(filter):
        if not isinstance(condition, models.FieldCondition):
            continue
        kind = indexes.get(condition.key)
        if isinstance(condition.range, models.DatetimeRange) and kind in ("integer", "float"):
            raise BadFilter(f"{condition.key}: holds numbers, and cannot be compared with a date")
        if isinstance(condition.range, models.Range) and kind == "datetime":
            raise BadFilter(f"{condition.key}: holds dates, and cannot be compared with a number")


def _field_conditions(
    condition: Any,
) -> Iterator[models.FieldCondition | models.NestedCondition]:
    if isinstance(condition, models.Filter):
        for clause in (condition.must, condition.should, condition.must_not):
            for part in clause if isinstance(clause, list) else [clause] if clause else []:
                yield from _field_conditions(part)
        if condition.min_should:
            for part in condition.min_should.conditions:
                yield from _field_conditions(part)
    elif isinstance(condition, (models.FieldCondition, models.NestedCondition)):
        yield condition


def _group(spec: Mapping[str, Any], path: str) -> models.Filter:
    must: list[Any] = []
    must_not: list[Any] = []
    for key, condition in spec.items():
        if not isinstance(key, str) or not key:
            raise BadFilter(f"{path}: a key must be the name of a payload field, not {key!r}")
        here = key if path == "filter" else f"{path}.{key}"
        if key in LOGIC:
            kind, part = _logic(key, condition, here)
            (must_not if kind == "not" else must).append(part)
        else:
            wanted, unwanted = _field(key, condition, here)
            must += wanted
            must_not += unwanted
    return models.Filter(must=must or None, must_not=must_not or None)


def _logic(key: str, condition: Any, path: str) -> tuple[str, models.Filter]:
    if key == "not":
        if not isinstance(condition, Mapping) or not condition:
            raise BadFilter(f"{path}: takes one filter such as {{'brand': 'Acme'}}")
        return "not", _group(condition, path)
    fits = isinstance(condition, Sequence) and not isinstance(condition, str) and condition
    if not fits or not all(isinstance(part, Mapping) and part for part in condition):
        raise BadFilter(f"{path}: takes a list of filters, got {condition!r}")
    parts: list[Any] = [_group(part, f"{path}[{index}]") for index, part in enumerate(condition)]
    return key, models.Filter(must=parts) if key == "and" else models.Filter(should=parts)


def _field(key: str, condition: Any, path: str) -> tuple[list[Any], list[Any]]:
    """Conditions that must match, and conditions that must not."""
    key = _quoted(key, path)
    if condition is None:
        return [_empty(key)], []
    if isinstance(condition, Mapping):
        return _operators(key, condition, path)
    if isinstance(condition, (list, tuple, set, frozenset)):
        return [_any_of(key, list(condition), path)], []
    return [_equal(key, condition, path)], []


def _operators(key: str, spec: Mapping[str, Any], path: str) -> tuple[list[Any], list[Any]]:
    unknown = [name for name in spec if name not in OPERATORS]
    if unknown or not spec:
        raise BadFilter(
            f"{path}: unknown operator {unknown[0]!r}; use one of {', '.join(OPERATORS)}"
            if unknown
            else f"{path}: names no operator; use one of {', '.join(OPERATORS)}"
        )
    must: list[Any] = []
    must_not: list[Any] = []
    bounds = {name: spec[name] for name in RANGE if name in spec}
    if bounds:
        must.append(_range(key, bounds, path))
    if "eq" in spec:
        must.append(_equal(key, spec["eq"], f"{path}.eq"))
    if "in" in spec:
        must.append(_any_of(key, spec["in"], f"{path}.in"))
    if "ne" in spec:
        must_not.append(_equal(key, spec["ne"], f"{path}.ne"))
    if "not_in" in spec:
        must_not.append(_any_of(key, spec["not_in"], f"{path}.not_in"))
    if "exists" in spec:
        if not isinstance(spec["exists"], bool):
            raise BadFilter(f"{path}.exists: takes true or false, got {spec['exists']!r}")
        (must_not if spec["exists"] else must).append(_empty(key))
    return must, must_not


def _equal(key: str, value: Any, path: str) -> models.FieldCondition:
    if _is_number(value):
        _check_number(value, path)
        # a match by the integer 50 would not find the float 50.0
        if isinstance(value, float) or abs(value) <= 2**53:
            return models.FieldCondition(key=key, range=models.Range(gte=value, lte=value))
    if not isinstance(value, (str, int)):
        raise BadFilter(
            f"{path}: compares with text, a number, true or false, not {type(value).__name__} "
            f"{value!r}"
        )
    return models.FieldCondition(key=key, match=models.MatchValue(value=value))


def _any_of(key: str, values: Any, path: str) -> Any:
    if not isinstance(values, (list, tuple, set, frozenset)) or not values:
        raise BadFilter(f"{path}: takes a list of at least one value, got {values!r}")
    values = list(values)
    if all(isinstance(value, str) for value in values):
        return models.FieldCondition(key=key, match=models.MatchAny(any=values))
    return models.Filter(
        should=[_equal(key, value, f"{path}[{index}]") for index, value in enumerate(values)]
    )


def _range(key: str, bounds: dict[str, Any], path: str) -> models.FieldCondition:
    if all(map(_is_number, bounds.values())):
        for name, value in bounds.items():
            _check_number(value, f"{path}.{name}")
        return models.FieldCondition(key=key, range=models.Range(**bounds))
    dates = {name: _date(value, f"{path}.{name}") for name, value in bounds.items()}
    return models.FieldCondition(key=key, range=models.DatetimeRange(**dates))


def _date(value: Any, path: str) -> datetime:
    if isinstance(value, datetime):
        return value
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        if isinstance(value, str):
            return datetime.fromisoformat(value.replace("Z", "+00:00"))
    except ValueError:
        pass
    raise BadFilter(f"{path}: takes a number or a date such as '2026-01-31', got {value!r}")


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_number(value: float, path: str) -> None:
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise BadFilter(f"{path}: {value} does not fit into 64 bits")
    elif not math.isfinite(value):
        raise BadFilter(f"{path}: {value} is not a finite number")


def _quoted(key: str, path: str) -> str:
    """The key with quotes around the names that need them, such as those with spaces."""
    if _PATH.fullmatch(key):
        return key
    names = key.split(".")
    if '"' in key or "" in names:
        raise BadFilter(f"{path}: {key!r} is not the path of a payload field")
    return ".".join(name if _PATH.fullmatch(name) else f'"{name}"' for name in names)


def _empty(key: str) -> models.IsEmptyCondition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
