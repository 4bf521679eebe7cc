"""Text from outside: UTF-8, with or without a byte order mark. Other encodings are named."""

from __future__ import annotations

import codecs

BOM = codecs.BOM_UTF8
WIDE_MARKS = (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE, codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)

SAVE_AS_UTF8 = "save it as UTF-8"


def check_utf8(head: bytes) -> None:
    """Raises ValueError where text that begins so is UTF-16 or UTF-32.

    Example:
        >>> check_utf8("image".encode("utf-16"))
        Traceback (most recent call last):
        ...
        ValueError: it is UTF-16 or UTF-32 text; save it as UTF-8
    """
    if head.startswith(WIDE_MARKS) or b"\0" in head[:4]:
        raise ValueError(f"it is UTF-16 or UTF-32 text; {SAVE_AS_UTF8}")


def utf8_text(data: bytes) -> str:
    """Bytes as text, without a byte order mark. Raises ValueError where they are not UTF-8.

    Example:
        >>> utf8_text(b"caf\\xe9")
        Traceback (most recent call last):
        ...
        ValueError: it is not UTF-8 text (byte 0xe9 at 3; Latin-1?); save it as UTF-8
    """
    check_utf8(data)
    try:
        return data.removeprefix(BOM).decode()
    except UnicodeDecodeError as error:
        odd = f"byte 0x{data.removeprefix(BOM)[error.start]:02x} at {error.start}"
        raise ValueError(f"it is not UTF-8 text ({odd}; Latin-1?); {SAVE_AS_UTF8}") from None
