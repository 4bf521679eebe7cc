"""The conditions of a qdrant Filter, however deep they are: read, and replaced."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from qdrant_client import models

CLAUSES = ("must", "should", "must_not")


@dataclass(frozen=True)
class FieldUse:
    """A condition on a payload field.

    Attributes:
        key: path of the field, from the top of the payload.
        negated: whether images that fulfill it are left out.
    """

    key: str
    condition: models.FieldCondition | models.IsEmptyCondition | models.IsNullCondition
    negated: bool = False


def field_uses(condition: Any, inside: str = "", negated: bool = False) -> Iterator[FieldUse]:
    """All uses of payload fields in a condition, or in a whole Filter.

    Args:
        inside: the path that the keys are relative to, as in nested conditions.
    """
    if isinstance(condition, models.Filter):
        for clause in CLAUSES:
            for part in parts(getattr(condition, clause)):
                yield from field_uses(part, inside, negated != (clause == "must_not"))
        for part in parts(condition.min_should and condition.min_should.conditions):
            yield from field_uses(part, inside, negated)
    elif isinstance(condition, models.NestedCondition):
        outer = inside + condition.nested.key
        yield from field_uses(condition.nested.filter, f"{outer.removesuffix('[]')}[].", negated)
    elif isinstance(condition, models.FieldCondition):
        yield FieldUse(inside + condition.key, condition, negated)
    elif isinstance(condition, models.IsEmptyCondition):
        yield FieldUse(inside + condition.is_empty.key, condition, negated)
    elif isinstance(condition, models.IsNullCondition):
        yield FieldUse(inside + condition.is_null.key, condition, negated)


def replaced(condition: Any, change: Callable[[Any], Any]) -> Any:
    """The same Filter with ``change`` applied to each condition that is not itself a Filter."""
    if not isinstance(condition, models.Filter):
        return change(condition)
    changed: dict[str, Any] = {
        clause: [replaced(part, change) for part in parts(getattr(condition, clause))] or None
        for clause in CLAUSES
    }
    if condition.min_should:
        several = [replaced(part, change) for part in condition.min_should.conditions]
        changed["min_should"] = models.MinShould(
            conditions=several, min_count=condition.min_should.min_count
        )
    return models.Filter(**changed)


def parts(clause: Any) -> list[Any]:
    """A clause may be a list of conditions, one, or none."""
    if clause is None:
        return []
    return clause if isinstance(clause, list) else [clause]
