"""Search results in the order of a payload field."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone
from typing import Any

from fti_qdrant.gallery.points import Payload, ScoredPoint
from fti_qdrant.gallery.protocol import FieldOrder


def ordered(hits: Sequence[ScoredPoint], order: FieldOrder) -> list[ScoredPoint]:
    """Hits by the value of a field; equal values as they were, hits without one at the end.

    Of a list, the smallest value counts, in descending order the largest.

    Example:
        >>> cheap, dear = ScoredPoint("a", 0.5, {"price": 3}), ScoredPoint("b", 0.9, {"price": 8})
        >>> [hit.id for hit in ordered([dear, cheap], FieldOrder("price"))]
        ['a', 'b']
    """
    values = {hit.id: _value(hit.payload, order) for hit in hits}
    having = [hit for hit in hits if values[hit.id] is not None]
    lacking = [hit for hit in hits if values[hit.id] is None]
    having.sort(key=lambda hit: values[hit.id], reverse=order.descending)  # type: ignore[arg-type,return-value]
    return having + lacking


def _value(payload: Payload, order: FieldOrder) -> tuple[int, Any] | None:
    from qdrant_client.local.payload_value_extractor import value_by_key

    found = value_by_key(payload, order.key) or []
    values = [one for one in map(_comparable, found) if one is not None]
    if not values:
        return None
    return max(values) if order.descending else min(values)


def _comparable(value: Any) -> tuple[int, Any] | None:
    """Numbers sort before dates; other values have no order."""
    from fti_qdrant.filters.value_kinds import kind_of

    if value is None or isinstance(value, list):
        return None
    kind = kind_of(value)
    if kind in ("integer", "float"):
        return 0, value
    if kind != "date":
        return None
    date = datetime.fromisoformat(value.upper().replace("Z", "+00:00"))
    return 1, date if date.tzinfo else date.replace(tzinfo=timezone.utc)
