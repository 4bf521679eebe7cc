"""One picture must never stop the others: what comes of it, or why nothing does."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from fti_qdrant.errors import BadImage
from fti_qdrant.images.fetch import Read, reason_of

Result = TypeVar("Result")


def result_or_reason(
    data: Read, uri: str, work: Callable[[bytes], Result]
) -> tuple[Result | None, str]:
    """What ``work`` makes of a picture's bytes and "", or None and the reason for its reject.

    Args:
        data: the bytes as ``read_batch`` gives them, or why they could not be read.
        uri: of the picture, which a reason does not repeat.

    Example:
        >>> result_or_reason(b"GIF89a", "a.gif", len)
        (6, '')
        >>> result_or_reason(b"GIF89a", "a.gif", lambda data: data.index(b"PNG"))
        (None, 'ValueError: subsection not found')
    """
    if isinstance(data, BadImage):
        return None, reason_of(data, uri)
    try:
        return work(data), ""
    except BadImage as error:
        return None, reason_of(error, uri)
    except Exception as error:  # a decoder of Pillow may raise anything
        return None, f"{type(error).__name__}: {error}"
