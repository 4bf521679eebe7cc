"""qdrant_client's filters -> Qdrant Edge's, whose classes have nearly the same names and fields."""

from __future__ import annotations

from typing import Any

import numpy as np
import qdrant_edge as edge
from qdrant_client import models

from fti_qdrant.errors import BadFilter, first_line


def to_edge(filter: models.Filter | None) -> edge.Filter | None:
    """Translates a Filter. Raises BadFilter for conditions that the embedded engine lacks."""
    try:
        return None if filter is None else _filter(filter)
    except BadFilter:
        raise
    except (TypeError, ValueError, OverflowError) as error:  # bad paths, dates, 65-bit integers
        raise BadFilter(
            f"an embedded gallery cannot use this filter: {first_line(error)}"
        ) from error


def _filter(filter: models.Filter) -> edge.Filter:
    min_should = filter.min_should and edge.MinShould(
        [_condition(part) for part in filter.min_should.conditions], filter.min_should.min_count
    )
    return edge.Filter(
        must=_clause(filter.must),
        should=_clause(filter.should),
        must_not=_clause(filter.must_not),
        min_should=min_should or None,
    )


def _clause(clause: Any) -> list[Any] | None:
    if clause is None:
        return None
    return [_condition(part) for part in (clause if isinstance(clause, list) else [clause])]


def _condition(condition: Any) -> Any:
    if isinstance(condition, models.Filter):
        return _filter(condition)
    if isinstance(condition, models.FieldCondition):
        return _field(condition)
    if isinstance(condition, models.IsEmptyCondition):
        return edge.IsEmptyCondition(condition.is_empty.key)
    if isinstance(condition, models.IsNullCondition):
        return edge.IsNullCondition(condition.is_null.key)
    if isinstance(condition, models.HasIdCondition):
        return edge.HasIdCondition(set(condition.has_id))
    if isinstance(condition, models.HasVectorCondition):
        return edge.HasVectorCondition(condition.has_vector)
    if isinstance(condition, models.NestedCondition):
        return edge.NestedCondition(condition.nested.key, _filter(condition.nested.filter))
    raise BadFilter(f"an embedded gallery cannot filter by {type(condition).__name__}")


def _field(condition: models.FieldCondition) -> edge.FieldCondition:
    return edge.FieldCondition(
        key=condition.key,
        match=_match(condition.match),
        range=_range(condition.range),
        geo_bounding_box=_geo_box(condition.geo_bounding_box),
        geo_radius=_geo_radius(condition.geo_radius),
        geo_polygon=_geo_polygon(condition.geo_polygon),
        values_count=_same(edge.ValuesCount, condition.values_count),
        is_empty=condition.is_empty,
        is_null=condition.is_null,
    )


def _match(match: Any) -> Any:
    if match is None:
        return None
    if isinstance(match, models.MatchValue):
        # Edge reads a plain True as the integer 1, which matches nothing
        value: Any = np.bool_(match.value) if isinstance(match.value, bool) else match.value
        return edge.MatchValue(value)
    if isinstance(match, models.MatchAny):
        options: Any = list(match.any)
        return edge.MatchAny(options)
    if isinstance(match, models.MatchExcept):
        unwanted: Any = list(match.except_)
        return edge.MatchExcept(unwanted)
    twin = getattr(edge, type(match).__name__, None)
    if twin is None:
        raise BadFilter(f"an embedded gallery cannot match by {type(match).__name__}")
    return twin(*match.model_dump().values())


def _range(bounds: Any) -> Any:
    if bounds is None:
        return None
    given = bounds.model_dump(exclude_none=True)
    if isinstance(bounds, models.DatetimeRange):
        return edge.RangeDateTime(**{name: value.isoformat() for name, value in given.items()})
    return edge.RangeFloat(**given)


def _same(twin: Any, value: Any) -> Any:
    return None if value is None else twin(**value.model_dump(exclude_none=True))


def _geo_point(point: models.GeoPoint) -> edge.GeoPoint:
    return edge.GeoPoint(point.lon, point.lat)


def _geo_box(box: models.GeoBoundingBox | None) -> Any:
    return box and edge.GeoBoundingBox(_geo_point(box.top_left), _geo_point(box.bottom_right))


def _geo_radius(radius: models.GeoRadius | None) -> Any:
    return radius and edge.GeoRadius(_geo_point(radius.center), radius.radius)


def _geo_polygon(polygon: models.GeoPolygon | None) -> Any:
    if polygon is None:
        return None
    rings = [
        [_geo_point(point) for point in ring.points]
        for ring in [polygon.exterior, *(polygon.interiors or [])]
    ]
    return edge.GeoPolygon(rings[0], rings[1:])
