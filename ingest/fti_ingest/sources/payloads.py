"""Payload values as Qdrant stores them, and the fields that it can index."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any

from fti_qdrant.gallery import IndexType

INDEXABLE_NAME = re.compile(r"[\w-]+")
"""Other names would need quotes in a JSON path; such fields are stored, but not indexed."""

LARGEST_INTEGER = 2**63 - 1


def plain(value: Any) -> Any:
    """A value as JSON; None for missing values.

    Raises UnicodeDecodeError for bytes that are not UTF-8, OverflowError for integers beyond 64
    bits, which Qdrant's gRPC does not accept.
    """
    if isinstance(value, int) and abs(value) > LARGEST_INTEGER:
        raise OverflowError(f"{value:,} is too large an integer; write it as a text")
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    if isinstance(value, Decimal):
        return plain(float(value))
    if isinstance(value, bytes):
        return value.decode()
    if isinstance(value, Mapping):
        return {str(name): plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one) for one in value]
    return str(value)


class IndexTypes:
    """Finds the fields whose values are all of one type that Qdrant can index."""

    def __init__(self) -> None:
        self._kinds: dict[str, IndexType | None] = {}

    def see(self, payload: Mapping[str, Any]) -> None:
        for name, value in payload.items():
            for one in value if isinstance(value, (list, tuple)) else (value,):
                if one is not None:
                    self._see_value(name, _kind(one))

    def found(self) -> dict[str, IndexType]:
        return {
            name: kind
            for name, kind in self._kinds.items()
            if kind is not None and INDEXABLE_NAME.fullmatch(name)
        }

    def _see_value(self, name: str, kind: IndexType | None) -> None:
        before = self._kinds.setdefault(name, kind)
        if before != kind:
            both_numbers = {before, kind} == {"integer", "float"}
            self._kinds[name] = "float" if both_numbers else None


def _kind(value: Any) -> IndexType | None:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "integer"
    if isinstance(value, (float, Decimal)):
        return "float"
    if isinstance(value, date):  # a datetime is one too
        return "datetime"
    return "keyword" if isinstance(value, (str, bytes)) else None
