"""Images that are themselves in a text: data URIs and base64, as some programs store them."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from urllib.parse import unquote_to_bytes

from fti_qdrant.errors import BadImage

DATA = "data:"

SHORTEST, HEAD = 60, 80
"""Characters of the smallest image in base64, and those that are looked at to recognize one."""

_BASE64 = re.compile(r"[A-Za-z0-9+/_\s-]+={0,2}")


def is_inline(text: str) -> bool:
    """Whether a text holds an image, and not the place of one.

    Example:
        >>> is_inline("data:image/png;base64,iVBORw0KGgo="), is_inline("photos/a.jpg")
        (True, False)
    """
    if text[: len(DATA)].lower() == DATA:
        return True
    head = text[:HEAD]
    if len(text) < SHORTEST or not _BASE64.fullmatch(head):
        return False
    from fti_qdrant.images.formats import known_kind

    try:
        return known_kind(_decoded(head[: SHORTEST - SHORTEST % 4])) is not None
    except BadImage:
        return False


def inline_bytes(text: str) -> bytes:
    """The encoded bytes of an image for which ``is_inline`` holds. Raises BadImage."""
    if text[: len(DATA)].lower() != DATA:
        return _decoded(text)
    kind, comma, data = text.partition(",")
    if not comma:
        raise BadImage(f"{kind[:HEAD]!r} is not a data URI; it has no comma before the data")
    if kind.lower().rstrip().endswith(";base64"):
        return _decoded(unquote_to_bytes(data).decode("ascii", "replace"))
    return unquote_to_bytes(data)


def _decoded(text: str) -> bytes:
    plain = re.sub(r"\s", "", text).rstrip("=").replace("-", "+").replace("_", "/")
    try:
        return b64decode(plain + "=" * (-len(plain) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage(f"the image in the text is not base64 ({error})") from None
