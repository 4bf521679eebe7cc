"""Search results in groups by a payload field, as a Qdrant server makes them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fti_qdrant.gallery.points import Payload, ScoredPoint

if TYPE_CHECKING:
    from qdrant_client import models

GroupValue = str | int


@dataclass
class Group:
    """Results with one value of a field, in the order of the search."""

    value: GroupValue | None
    hits: list[ScoredPoint] = field(default_factory=list)


def group_values(payload: Payload, key: str) -> list[GroupValue]:
    """The groups of an image: every value of a list; none where any value cannot be one.

    Example:
        >>> group_values({"brand": "Acme"}, "brand"), group_values({"tags": ["a", "b"]}, "tags")
        (['Acme'], ['a', 'b'])
        >>> group_values({"price": 9.5}, "price"), group_values({"new": True}, "new")
        ([], [])
    """
    from qdrant_client.local.payload_value_extractor import value_by_key

    values = value_by_key(payload, key) or []
    if any(type(value) not in (str, int) for value in values):
        return []
    return list(dict.fromkeys(values))


def grouped(hits: Iterable[ScoredPoint], key: str, size: int) -> list[Group]:
    """The first ``size`` hits of each group, the groups in the order of their first hit."""
    groups: dict[GroupValue, Group] = {}
    for hit in hits:
        for value in group_values(hit.payload, key):
            group = groups.setdefault(value, Group(value))
            if len(group.hits) < size:
                group.hits.append(hit)
    return list(groups.values())


def having(key: str, values: Sequence[GroupValue]) -> models.Filter:
    """Images with any of the values."""
    from qdrant_client import models

    texts = [value for value in values if isinstance(value, str)]
    numbers = [value for value in values if isinstance(value, int)]
    return models.Filter(
        should=[
            models.FieldCondition(key=key, match=models.MatchAny(any=kind))
            for kind in (texts, numbers)
            if kind
        ]
    )


def beyond(key: str, values: Sequence[GroupValue]) -> models.Filter | None:
    """Images that may belong to further groups.

    Of those with one of the values, only lists remain: they may hold another value too.
    """
    from qdrant_client import models

    if not values:
        return None
    single: Any = models.FieldCondition(key=key, values_count=models.ValuesCount(lte=1))
    return models.Filter(must_not=[models.Filter(must=[having(key, values), single])])
