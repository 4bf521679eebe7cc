"""What kind of value a payload value is, and how it becomes one of a chosen type.

Texts of a CSV file are read by ``kind_of_text``; values of JSON and Parquet have a type already.
The rules are a table in ``docs/ingest.md``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, Literal, get_args

ColumnType = Literal["keyword", "integer", "float", "bool", "datetime", "text"]
"""What a column can be: the types of Qdrant's indexes, and ``text``, which is not indexed."""

COLUMN_TYPES: tuple[str, ...] = get_args(ColumnType)

Kind = Literal["keyword", "integer", "float", "bool", "datetime", "object", "nan"]
"""What one value is. ``nan`` is a number that is missing, or infinite."""

MAX_EXACT = 2**53
"""Larger integers are not exact as floats."""

INTEGERS = range(-(2**63), 2**63)
"""Those that fit into 64 bits."""

_INTEGER = re.compile(r"0|-?[1-9]\d{0,18}", re.ASCII)
_FLOAT = re.compile(
    r"[+-]?(?:(?:0|[1-9]\d{0,15})\.\d*|\.\d+)(?:e[+-]?\d+)?|-?(?:0|[1-9]\d{0,15})e[+-]\d+",
    re.IGNORECASE | re.ASCII,
)
_ANY_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?", re.IGNORECASE | re.ASCII)
_WORDS: dict[str, Kind] = {"true": "bool", "false": "bool", "nan": "nan"}
_BOOLS = {"true": True, "false": False, "1": True, "0": False}


class DateText(str):
    """A date in ISO 8601 that ``datetime`` cannot hold, with nanoseconds."""

    __slots__ = ()


def kind_of_text(text: str) -> Kind:
    """The narrowest kind of a text in a CSV file. Codes stay texts.

    Example:
        >>> [kind_of_text(text) for text in ("12", "1.5", "1e-05", "True", "007", "12E4", "+49")]
        ['integer', 'float', 'float', 'bool', 'keyword', 'keyword', 'keyword']
    """
    if text[:1] in "tTfFnN" and len(text) <= 5:
        return _WORDS.get(text.lower(), "keyword")
    if _INTEGER.fullmatch(text):
        return "integer" if int(text) in INTEGERS else "keyword"
    if _FLOAT.fullmatch(text):
        return "float" if "e" not in text.lower() or _survives(text) else "keyword"
    return "keyword"


def kinds_of(value: Any) -> Iterator[Kind]:
    """The kinds of a value with a type: of a list, those of its elements; none if missing."""
    for one in value if isinstance(value, (list, tuple)) else (value,):
        if one is not None:
            yield _kind_of(one)


def _kind_of(value: Any) -> Kind:
    if isinstance(value, str):
        return "datetime" if isinstance(value, DateText) else "keyword"
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, float):
        return "float" if math.isfinite(value) else "nan"
    if isinstance(value, Decimal):
        return "integer" if is_whole(value) else "float"
    if isinstance(value, date):  # a datetime is one too
        return "datetime"
    if isinstance(value, (Mapping, list, tuple)):
        return "object"
    return "keyword"


def is_whole(value: Decimal) -> bool:
    """Whether a decimal is of a type without places after the point."""
    return value.is_finite() and value.as_tuple().exponent == 0


def convert(value: Any, type: ColumnType) -> Any:
    """A JSON value as one of a type; None where it is missing.

    Example:
        >>> convert("12E4", "float"), convert(7, "keyword"), convert(["1", "nan"], "integer")
        (120000.0, '7', [1, None])

    Raises ValueError, with the value, where it cannot be one.
    """
    if isinstance(value, list):
        return [convert(one, type) for one in value]
    if value is None or (type not in ("keyword", "text") and _is_nan(value)):
        return None
    try:
        return _CONVERTERS[type](value)
    except (ValueError, OverflowError):
        raise ValueError(f"{shortened(value)} is no {type}") from None


def shortened(value: Any) -> str:
    """A value for a message.

    Example:
        >>> shortened("x" * 100)
        "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…'"
    """
    text = value if isinstance(value, str) else str(value)
    text = text if len(text) <= 40 else text[:40] + "…"
    return repr(text) if isinstance(value, str) else text


def _is_nan(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() in ("", "nan")


def _survives(text: str) -> bool:
    """Whether a float with an exponent neither overflows nor becomes zero."""
    value = float(text)
    mantissa = text.lower().partition("e")[0]
    return math.isfinite(value) and (value != 0 or not re.search("[1-9]", mantissa))


def _number_text(text: str) -> str:
    """Without blanks around. Raises ValueError where it is no number."""
    text = text.strip()
    if not _ANY_NUMBER.fullmatch(text):
        raise ValueError
    return text


def _integer(value: Any) -> int:
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, str):
        value = Decimal(_number_text(value))
        if value.adjusted() > 19:  # int would build all of its digits
            raise ValueError
    found = int(value)
    if found != value or found not in INTEGERS:
        raise ValueError
    return found


def _float(value: Any) -> float | int:
    """Integers that no float holds exactly stay integers: JSON has numbers alone."""
    if isinstance(value, bool):
        raise ValueError
    if isinstance(value, str):
        value = _number_text(value)
        if value.lstrip("+-").isdigit() and abs(int(value)) > MAX_EXACT:
            return _integer(value)
    elif isinstance(value, int) and abs(value) > MAX_EXACT:
        return _integer(value)
    found = float(value)
    if not math.isfinite(found):
        raise ValueError
    return found


def _bool(value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in _BOOLS:
        raise ValueError
    return _BOOLS[word]


def _datetime(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError
    text = value.strip()
    try:
        return date.fromisoformat(text).isoformat()
    except ValueError:
        return datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).isoformat()


def _keyword(value: Any) -> str:
    if isinstance(value, Mapping):
        raise ValueError
    return str(value).lower() if isinstance(value, bool) else str(value)


_CONVERTERS: dict[ColumnType, Callable[[Any], Any]] = {
    "integer": _integer,
    "float": _float,
    "bool": _bool,
    "datetime": _datetime,
    "keyword": _keyword,
    "text": _keyword,
}
