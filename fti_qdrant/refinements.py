"""What a query can ask for beside its vector and filter: pages, cutoff, groups, order, parameters.

``gallery.protocol.VectorQuery`` says how they work together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, Protocol

from pydantic import ValidationError
from qdrant_client import models

from fti_qdrant.errors import BadQuery
from fti_qdrant.gallery.protocol import FieldOrder

OrderLike = str | models.OrderBy
SearchParamsLike = Mapping[str, Any] | models.SearchParams


class Refined(Protocol):
    """The part of ``Query`` that this module reads; the attributes are those of its arguments."""

    @property
    def offset(self) -> int: ...
    @property
    def cutoff(self) -> float | None: ...
    @property
    def min_confidence(self) -> float | None: ...
    @property
    def diversity(self) -> float | None: ...
    @property
    def order_by(self) -> OrderLike | None: ...
    @property
    def group_by(self) -> str | None: ...
    @property
    def group_size(self) -> int: ...
    @property
    def with_payload(self) -> bool | Sequence[str]: ...
    @property
    def exact(self) -> bool | None: ...
    @property
    def search_params(self) -> SearchParamsLike | None: ...
    @property
    def score_threshold(self) -> float | None: ...


def check_refinements(query: Refined) -> None:
    """Raises BadQuery, which names the argument and its value."""
    if not is_whole(query.offset) or query.offset < 0:
        raise BadQuery(f"offset must be a whole number of at least 0, got {query.offset!r}")
    cutoff, diversity, chance = query.cutoff, query.diversity, query.min_confidence
    if cutoff is not None and not (is_number(cutoff) and 0 < cutoff <= 1):
        raise BadQuery(
            f"cutoff must be a share of the best score, above 0 to 1, got {cutoff!r}; 0.9 keeps "
            "hits with at least 0.9 times the best score"
        )
    if chance is not None and not (is_number(chance) and 0 <= chance <= 1):
        raise BadQuery(f"min_confidence must be a chance from 0 to 1, got {chance!r}")
    if diversity is not None and not (is_number(diversity) and 0 <= diversity <= 1):
        raise BadQuery(
            f"diversity must be a number from 0 (by score alone) to 1, got {diversity!r}"
        )
    if not isinstance(query.exact, (bool, type(None))):
        raise BadQuery(f"exact must be true or false, got {query.exact!r}")
    _check_groups(query)
    _check_order(query)
    payload_names(query.with_payload)
    params = search_params(query.search_params)
    if query.exact is not None and params and "exact" in params.model_fields_set:
        raise BadQuery("exact is given twice, and in search_params; give it once")


def payload_names(wanted: bool | Sequence[str]) -> list[str] | None:
    """The payload fields that ``with_payload`` asks for; None stands for all. Raises BadQuery."""
    if isinstance(wanted, bool):
        return None if wanted else []
    if isinstance(wanted, (list, tuple)) and all(_is_name(one) for one in wanted):
        return list(wanted)
    raise BadQuery(f"with_payload must be True, False or a list of fields, got {wanted!r}")


def field_order(order: OrderLike) -> FieldOrder:
    """What ``order_by`` asks for; a minus before the field means descending.

    Example:
        >>> field_order("-price")
        FieldOrder(key='price', descending=True)

    Raises BadQuery.
    """
    if isinstance(order, models.OrderBy):
        if order.start_from is not None:
            raise BadQuery(
                f"order_by cannot start from {order.start_from!r}; pass a filter on {order.key}"
            )
        return FieldOrder(order.key, order.direction == models.Direction.DESC)
    if not isinstance(order, str) or not order.removeprefix("-").strip():
        raise BadQuery(f'order_by must be a field such as "price" or "-price", got {order!r}')
    return FieldOrder(order.removeprefix("-"), order.startswith("-"))


def search_params(given: SearchParamsLike | None) -> models.SearchParams | None:
    """A mapping, or qdrant's own parameters, checked.

    Example:
        >>> search_params({"hnsw_ef": 256}).hnsw_ef
        256

    Raises BadQuery.
    """
    if given is None:
        return None
    try:
        ready = isinstance(given, models.SearchParams)
        values = given.model_dump(exclude_unset=True) if ready else dict(given)  # type: ignore[union-attr]
        params = models.SearchParams.model_validate(values)
    except (ValidationError, TypeError, ValueError) as error:
        raise BadQuery(f"search_params {given!r}: {_reason(error)}") from None
    selectivity = params.acorn.max_selectivity if params.acorn else None
    oversampling = params.quantization.oversampling if params.quantization else None
    bounds: tuple[tuple[str, float | None, int, int], ...] = (
        ("hnsw_ef", params.hnsw_ef, 1, 100_000),
        ("acorn.max_selectivity", selectivity, 0, 1),
        ("quantization.oversampling", oversampling, 1, 1000),
    )
    for name, value, least, most in bounds:
        if value is not None and not least <= value <= most:
            raise BadQuery(f"search_params: {name} must be from {least} to {most:,}, got {value}")
    if params.idf is not None:
        raise BadQuery("search_params: idf is for sparse vectors; image vectors have none")
    return params


def _check_groups(query: Refined) -> None:
    if query.group_by is not None and not _is_name(query.group_by):
        raise BadQuery(f"group_by must be the name of a payload field, got {query.group_by!r}")
    if not is_whole(query.group_size) or query.group_size < 1:
        raise BadQuery(f"group_size must be a whole number of at least 1, got {query.group_size!r}")
    if query.group_by is None and query.group_size != 1:
        raise BadQuery(f"group_size {query.group_size} needs group_by, the field to group by")


def _check_order(query: Refined) -> None:
    if query.order_by is None:
        return
    order = field_order(query.order_by)
    if query.diversity:
        raise BadQuery(f"order_by {order.key!r} and diversity are two orders; choose one")
    if query.cutoff is None and query.score_threshold is None and query.min_confidence is None:
        raise BadQuery(
            f"order_by {order.key!r} needs a cutoff (or score_threshold, or min_confidence), such "
            "as cutoff=0.9: it orders what that leaves, and without one the query itself would not "
            "matter"
        )


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(map(str, first['loc']))}: {first['msg']}"
    return str(error)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())


def is_whole(value: object) -> bool:
    """Whether a value is an integer, and not True or False."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value: object) -> bool:
    """Whether a value is a finite number, and not True or False."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and isfinite(value)
