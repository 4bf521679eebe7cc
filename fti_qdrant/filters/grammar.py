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
Dots separate nested fields, ``"size.width"``. A name that itself contains a dot is written in
quotes, ``'"a.b"'``, or as it is where no image has a nested field of that path. Numbers are
compared exactly, also integers beyond 2**53. For everything else (geo, nested arrays, full text)
pass a ``qdrant_client.models.Filter``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from qdrant_client import models

from fti_qdrant.errors import BadFilter
from fti_qdrant.filters.integer_ranges import equals, number_range

FilterLike = Mapping[str, Any] | models.Filter

RANGE = ("lt", "lte", "gt", "gte")
OPERATORS = ("eq", "ne", "in", "not_in", *RANGE, "exists")
LOGIC = ("and", "or", "not")

_SEGMENT = r'(?:[\w-]+|"[^"\\]+")(?:\[\d*\])*'
_PATH = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")
"""What Qdrant parses as a path into the payload; any other name must be quoted."""

Paths = Callable[[str], str]
"""A key as the user wrote it -> the path into the payload as Qdrant writes it."""


def as_filter(spec: FilterLike | None, path_of: Paths | None = None) -> models.Filter | None:
    """A mapping of the grammar above, or a ready Filter, or None -> Filter or None.

    Args:
        path_of: finds the field that a key means; by default ``quoted``, by the key alone.

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
    return _Translation(path_of or quoted).group(spec, "filter") if spec else None


def both(first: models.Filter | None, second: models.Filter | None) -> models.Filter | None:
    """A filter that requires both; None stands for no filter."""
    if first is None or second is None:
        return first or second
    return models.Filter(must=[first, second])


def quoted(key: str) -> str:
    """The path that a key means, with quotes around the names that need them.

    Example:
        >>> quoted("size.width"), quoted("list price.net")
        ('size.width', '"list price".net')

    Raises BadFilter for keys that are no path.
    """
    if is_path(key):
        return key
    names = key.split(".")
    if not all(map(is_quotable, names)):
        raise BadFilter(f"{key!r} is not the path of a payload field")
    return ".".join(name if is_path(name) else f'"{name}"' for name in names)


def is_name(key: str) -> bool:
    """Whether a key can only be the name of a field: it needs no quotes."""
    return re.fullmatch(r"[\w-]+", key) is not None


def is_path(key: str) -> bool:
    """Whether Qdrant reads a key as a path."""
    return _PATH.fullmatch(key) is not None


def is_quotable(name: str) -> bool:
    """Whether quotes make any name a path: there are none within quotes, nor backslashes."""
    return name != "" and '"' not in name and "\\" not in name


@dataclass(frozen=True)
class _Translation:
    """A filter mapping -> a qdrant Filter; ``path`` says where in the mapping an error is."""

    path_of: Paths

    def group(self, spec: Mapping[str, Any], path: str) -> models.Filter:
        must: list[Any] = []
        must_not: list[Any] = []
        for key, condition in spec.items():
            if not isinstance(key, str) or not key:
                raise BadFilter(f"{path}: a key must be the name of a payload field, not {key!r}")
            here = key if path == "filter" else f"{path}.{key}"
            if key in LOGIC:
                kind, part = self._logic(key, condition, here)
                (must_not if kind == "not" else must).append(part)
            else:
                wanted, unwanted = self._field(key, condition, here)
                must += wanted
                must_not += unwanted
        return models.Filter(must=must or None, must_not=must_not or None)

    def _logic(self, key: str, condition: Any, path: str) -> tuple[str, models.Filter]:
        if key == "not":
            if not isinstance(condition, Mapping) or not condition:
                raise BadFilter(f"{path}: takes one filter such as {{'brand': 'Acme'}}")
            return "not", self.group(condition, path)
        fits = isinstance(condition, Sequence) and not isinstance(condition, str) and condition
        if not fits or not all(isinstance(part, Mapping) and part for part in condition):
            raise BadFilter(f"{path}: takes a list of filters, got {condition!r}")
        parts: list[Any] = [
            self.group(part, f"{path}[{index}]") for index, part in enumerate(condition)
        ]
        return key, models.Filter(must=parts) if key == "and" else models.Filter(should=parts)

    def _field(self, key: str, condition: Any, path: str) -> tuple[list[Any], list[Any]]:
        """Conditions that must match, and conditions that must not."""
        try:
            field = self.path_of(key)
        except BadFilter as error:  # it does not know where in the filter the key is
            raise BadFilter(f"{path}: {error}") from None
        if condition is None:
            return [_empty(field)], []
        if isinstance(condition, Mapping):
            return _operators(field, condition, path)
        if isinstance(condition, (list, tuple, set, frozenset)):
            return [_any_of(field, list(condition), path)], []
        return [_equal(field, condition, path)], []


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


def _equal(key: str, value: Any, path: str) -> models.Condition:
    if _is_number(value):  # a match by the integer 50 would not find the float 50.0
        _check_number(value, path)
        return equals(key, value)
    if not isinstance(value, (str, bool)):
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


def _range(key: str, bounds: dict[str, Any], path: str) -> models.Condition:
    if all(map(_is_number, bounds.values())):
        for name, value in bounds.items():
            _check_number(value, f"{path}.{name}")
        return number_range(key, bounds)
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


def _empty(key: str) -> models.IsEmptyCondition:
    return models.IsEmptyCondition(is_empty=models.PayloadField(key=key))
