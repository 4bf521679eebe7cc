"""Payload values as Qdrant stores them: JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from fti_ingest.sources.value_kinds import INTEGERS, is_whole
from fti_qdrant.gallery.points import OURS, Payload


def payload_text(payload: Payload) -> str:
    """A payload as JSON, without missing values.

    Raises ValueError, with the column, where a value cannot be stored.
    """
    if OURS in payload:
        raise ValueError(f"the field {OURS!r} is reserved; rename it")
    try:
        return _json(payload)
    except (ValueError, RecursionError):
        for name, value in payload.items():
            _check(name, value)
        raise


def _json(payload: Payload) -> str:
    found = {name: plain(value) for name, value in payload.items()}
    json.dumps(
        found, ensure_ascii=False
    ).encode()  # fails for lone surrogates, which no store takes
    return json.dumps({name: value for name, value in found.items() if value is not None})


def _check(name: str, value: Any) -> None:
    """Raises ValueError where a value cannot be stored."""
    shown = name.encode(errors="backslashreplace").decode()
    try:
        _json({name: value})
    except UnicodeError:
        raise ValueError(f"column {shown!r}: {_not_text(value)}") from None
    except RecursionError:
        raise ValueError(f"column {shown!r}: it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"column {shown!r}: {error}") from None


def plain(value: Any) -> Any:
    """A value as JSON; None for missing values, and for numbers that are not finite.

    Raises UnicodeDecodeError for bytes that are not UTF-8, ValueError for numbers that are too
    large: Qdrant's gRPC accepts integers of 64 bits.
    """
    if value is None or isinstance(value, (str, bool)):
        return value
    if isinstance(value, int):
        if value not in INTEGERS:
            raise ValueError(f"{_digits(value)} is too large an integer; write it as a text")
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return _plain_decimal(value)
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return str(value)


def _plain_decimal(value: Decimal) -> Any:
    if not value.is_finite():
        return None
    if is_whole(value):
        return plain(int(value))
    found = float(value)
    if not math.isfinite(found):
        raise ValueError(f"{value:.3e} is too large a number; write it as a text")
    return found


def _digits(value: int) -> str:
    """Python refuses to write integers of thousands of digits."""
    bits = value.bit_length()
    return f"{value:,}" if bits < 1000 else f"an integer of {bits:,} bits"


def _not_text(value: Any) -> str:
    if isinstance(value, bytes):
        return f"{len(value):,} bytes that are not UTF-8 text; leave the column out"
    return "it is not UTF-8 text; correct it"
