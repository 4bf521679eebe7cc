"""Renamed public names keep working for a while, with one warning that says what to use."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def warn_deprecated(
    old: str, *, since: str, removed_in: str, use: str, stacklevel: int = 2
) -> None:
    """Warns that a public name is deprecated.

    Args:
        old: what the caller used, such as ``Composer.default_method``.
        since: the version that renamed it.
        removed_in: the version that will no longer have it.
        use: what to use instead.
        stacklevel: 2 points at the caller of the function that calls this one.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_deprecated("shrink()", since="0.2", removed_in="0.4", use="resize()")
        >>> print(caught[0].message)
        shrink() is deprecated since version 0.2 and will be removed in version 0.4; use resize()
    """
    warnings.warn(
        f"{old} is deprecated since version {since} and will be removed in version {removed_in}; "
        f"use {use}",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


def renamed_argument(
    old: str, new: str, *, since: str, removed_in: str
) -> Callable[[Callable[P, T]], Callable[P, T]]:
    """Lets a function take the keyword argument ``new`` by its old name too, with a warning.

    Example:
        >>> @renamed_argument("colour", "color", since="0.2", removed_in="0.4")
        ... def paint(color):
        ...     return color
        >>> paint(color="red")
        'red'

    Raises TypeError where both are passed.
    """

    def decorate(function: Callable[P, T]) -> Callable[P, T]:
        @wraps(function)
        def call(*args: P.args, **options: P.kwargs) -> T:
            if old in options:
                name = function.__qualname__
                if new in options:
                    raise TypeError(f"{name}() got both {old!r} and {new!r}; pass {new!r}")
                warn_deprecated(
                    f"{name}({old}=...)",
                    since=since,
                    removed_in=removed_in,
                    use=f"{new}=...",
                )
                options[new] = options.pop(old)
            return function(*args, **options)

        return call

    return decorate
