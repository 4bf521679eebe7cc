"""Arrow values as Python values, of which a bad one spoils no other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from typing import Any

import pyarrow as pa

from fti_ingest.sources.value_kinds import DateText
from fti_qdrant.errors import first_line

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}


@dataclass(frozen=True)
class BadValue:
    """A value that Python has no place for, and why."""

    reason: str


def column_values(column: pa.Array) -> list[Any]:
    """A column as Python values; those that cannot be read are ``BadValue``."""
    if not _needs_care(column.type):
        try:
            return list(column.to_pylist())
        except Exception:  # one of them, which is found below
            pass
    return [_value_or_why(one) for one in column]


def _needs_care(type: pa.DataType) -> bool:
    """Whether Python's own values would lose something, or need pandas."""
    if pa.types.is_map(type) or pa.types.is_float16(type):
        return True
    if pa.types.is_temporal(type) and getattr(type, "unit", "") == "ns":
        return True
    if pa.types.is_dictionary(type):
        return _needs_care(type.value_type)
    return any(_needs_care(type.field(number).type) for number in range(type.num_fields))


def _value_or_why(scalar: pa.Scalar) -> Any:
    try:
        return _value(scalar)
    except UnicodeDecodeError:
        return BadValue("it is not UTF-8 text")
    except Exception as error:  # of datetime, zoneinfo, Arrow
        return BadValue(f"a {scalar.type} that cannot be read ({first_line(error)})")


def _value(scalar: pa.Scalar) -> Any:
    type = scalar.type
    if not scalar.is_valid:
        return None
    if pa.types.is_map(type):
        return {str(_value(key)): _value(one) for key, one in _pairs(scalar)}
    if pa.types.is_struct(type):
        return {type.field(n).name: _value(scalar[n]) for n in range(type.num_fields)}
    if type.num_fields and hasattr(scalar, "values"):
        return [_value(one) for one in scalar.values]
    if pa.types.is_dictionary(type):
        return _value(scalar.value)
    if pa.types.is_timestamp(type):
        return _moment(scalar)
    if pa.types.is_duration(type):
        return _duration(scalar.value, type.unit)
    if pa.types.is_time(type):
        return _time(scalar.value, type.unit)
    if pa.types.is_float16(type):
        return float(scalar.as_py())
    return scalar.as_py()


def _pairs(scalar: pa.MapScalar) -> list[tuple[pa.Scalar, pa.Scalar]]:
    entries = scalar.values
    return list(zip(entries.field(0), entries.field(1)))


def _moment(scalar: pa.TimestampScalar) -> DateText:
    """ISO 8601, with nine decimals where there are nanoseconds. Raises OverflowError."""
    type = scalar.type
    seconds, rest = divmod(scalar.value, PER_SECOND[type.unit])
    nanoseconds = rest * (PER_SECOND["ns"] // PER_SECOND[type.unit])
    moment = EPOCH + timedelta(seconds=seconds)
    if type.tz is None:
        moment = moment.replace(tzinfo=None)
    else:
        moment = moment.astimezone(pa.lib.string_to_tzinfo(type.tz))
    moment = moment.replace(microsecond=nanoseconds // 1000)
    if not nanoseconds % 1000:
        return DateText(moment.isoformat())
    text = moment.isoformat(timespec="microseconds")
    decimals = text.index(".") + 7
    return DateText(f"{text[:decimals]}{nanoseconds % 1000:03d}{text[decimals:]}")


def _duration(value: int, unit: str) -> str:
    """As Python writes them, ``1 day, 2:00:00``."""
    seconds, rest = divmod(value, PER_SECOND[unit])
    whole = str(timedelta(seconds=seconds))
    return whole + _decimals(rest, unit)


def _time(value: int, unit: str) -> str:
    seconds, rest = divmod(value, PER_SECOND[unit])
    return str((EPOCH + timedelta(seconds=seconds)).time()) + _decimals(rest, unit)


def _decimals(rest: int, unit: str) -> str:
    digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[unit]
    return f".{rest:0{digits}d}" if rest else ""
