"""Overload: the error that a full queue raises."""

from __future__ import annotations

from fti_qdrant.errors import FtiError


class Overloaded(FtiError, RuntimeError):
    """More queries than can be answered now.

    Attributes:
        retry_after: seconds after which it is worth asking again.
    """

    exit_code = 1

    def __init__(self, message: str, retry_after: float = 1.0):
        super().__init__(message)
        self.retry_after = retry_after
