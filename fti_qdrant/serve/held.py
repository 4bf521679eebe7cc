"""The bytes of requests that are in memory, all of them together."""

from __future__ import annotations

from fti_qdrant.errors import Overloaded

BODIES_HELD = 16
"""So many bodies of the greatest size may be in memory at a time, or more of smaller ones."""


class Held:
    """Counts the bytes of bodies and of pictures at URLs."""

    def __init__(self, most: int):
        self.size = 0
        self._most = most

    def add(self, size: int) -> None:
        """Raises Overloaded where there are too many; the caller takes them away all the same."""
        self.size += size
        if self.size > self._most:
            raise Overloaded("too many large requests are being answered; try again soon")

    def remove(self, size: int) -> None:
        self.size -= size
