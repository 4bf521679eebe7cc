"""Ids of stored images: a UUID or a whole number, as Qdrant has them."""

from __future__ import annotations

import uuid
from numbers import Integral
from typing import Any

from fti_qdrant.errors import UnknownImageId

IMAGE_NAMESPACE = uuid.UUID("5c3f0f9e-7d0b-5a6e-9f3b-2b1a4f7d9c10")

PointId = str | uuid.UUID | int
"""An id as a caller may write it."""

StoredId = str | int
"""An id as a gallery returns it: a number, or the text of a UUID."""

NUMBERS = range(2**64)


def point_id(key: str) -> str:
    """The point id of an image: uuid5 of its key, its path or URI relative to the source.

    Ingesting the same image again therefore replaces the same point.
    """
    return str(uuid.uuid5(IMAGE_NAMESPACE, key.replace("\\", "/")))


def is_number(id: object) -> bool:
    """Whether a value is a whole number, of Python or numpy, and not True or False."""
    return isinstance(id, Integral) and not isinstance(id, bool)


def stored_form(id: object) -> StoredId:
    """An image id, however it is written, as galleries return it.

    Example:
        >>> stored_form(42), stored_form(uuid.UUID(int=42))
        (42, '00000000-0000-0000-0000-00000000002a')

    Raises UnknownImageId where it is neither a UUID nor a number of 64 bits.
    """
    if is_number(id):
        number = int(id)  # type: ignore[call-overload]
        if number in NUMBERS:
            return number
        raise UnknownImageId(f"{number} is not an image id; numbers are from 0 to 2**64 - 1")
    try:
        if isinstance(id, (str, uuid.UUID)):
            return str(uuid.UUID(str(id)))
    except ValueError:
        pass
    raise UnknownImageId(f"{id!r} is not an image id; pass the id of a hit, a UUID or a number")


def parsed_id(text: str) -> StoredId:
    """An id from its text, as command lines and tables have it; digits alone are a number.

    Example:
        >>> parsed_id("42"), parsed_id("00000000-0000-0000-0000-00000000002A")
        (42, '00000000-0000-0000-0000-00000000002a')

    Raises UnknownImageId.
    """
    written = text.strip()
    return stored_form(int(written) if written.isascii() and written.isdigit() else written)


def id_order(id: StoredId | uuid.UUID) -> tuple[bool, Any]:
    """Sort key of ids, as Qdrant orders them: numbers first, then UUIDs.

    Example:
        >>> sorted(["00000000-0000-0000-0000-000000000001", 20, 3], key=id_order)
        [3, 20, '00000000-0000-0000-0000-000000000001']
    """
    return isinstance(id, str), id
