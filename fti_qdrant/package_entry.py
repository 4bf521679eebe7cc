"""What an installed package brings by an entry point: a composer, a benchmark."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint
from typing import Any

from fti_qdrant.errors import FtiError, first_line


def load_entry(
    point: EntryPoint,
    kind: str,
    needed: str,
    fits: Callable[[Any], bool],
    refusal: type[FtiError],
) -> Any:
    """The object of an entry point.

    Args:
        kind: what it should be in the words of a message, such as ``composer``.
        needed: its type in the words of a message, such as ``a ComposerDescription``.
        fits: whether the object is of that type, and has the entry point's name.

    Raises ``refusal``, which names the package's object, where it cannot be loaded or does not fit.
    """
    try:
        found = point.load()
    except Exception as error:  # a package's import can fail in any way
        raise refusal(
            f"{kind} {point.name!r} of {point.value} cannot be loaded: {first_line(error)}; repair "
            "or uninstall its package"
        ) from error
    if not fits(found):
        raise refusal(
            f"entry point {point.name!r} is {point.value}, which is not {needed} of that name; "
            "repair or uninstall its package"
        )
    return found
