"""JSON in which a name that is written twice is refused: a reader would let the last one win."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Pairs = list[tuple[str, Any]]


def unique_names(refusal: Callable[[str], Exception]) -> Callable[[Pairs], dict[str, Any]]:
    """An ``object_pairs_hook`` for ``json.loads``.

    Args:
        refusal: makes the error for a name that is there twice.

    Example:
        >>> import json
        >>> hook = unique_names(lambda name: ValueError(f"{name!r} is there twice"))
        >>> json.loads('{"a": 1, "b": 2}', object_pairs_hook=hook)
        {'a': 1, 'b': 2}
        >>> json.loads('{"a": 1, "a": 2}', object_pairs_hook=hook)
        Traceback (most recent call last):
        ValueError: 'a' is there twice
    """

    def as_object(pairs: Pairs) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) < len(pairs):
            names = [name for name, _ in pairs]
            raise refusal(next(name for name in names if names.count(name) > 1))
        return found

    return as_object
