"""Pictures without their metadata: what is wrong with a note must not cost the pixels."""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator
from typing import Any

from fti_qdrant.images import jpeg, png

TIFF_TAGS = frozenset(
    [
        *(254, 256, 257, 258, 259, 262, 266, 273, 274, 277, 278, 279, 280, 281, 284, 292, 293, 301),
        *(317, 320, 322, 323, 324, 325, 332, 336, 338, 339, 340, 341, 347, 512, 513, 514, 519, 520),
        *(521, 529, 530, 531, 532, 34675),
    ]
)
"""Tags of TIFF that say where the pixels are and what they mean, with orientation and profile."""

WEBP_PIXELS = (b"VP8 ", b"VP8L", b"ALPH", b"ANIM", b"ANMF", b"ICCP", b"VP8X")
WEBP_NOTES = 0b00001100
"""Flags of the chunk VP8X that announce EXIF and XMP."""

ITEM_OF_EXIF = re.compile(rb"(infe.{8})Exif", re.DOTALL)
"""In AVIF and HEIC, the entry of an item whose type is Exif."""


def readable_forms(data: bytes) -> Iterator[tuple[bytes, dict[str, Any]]]:
    """A file as it is to be decoded, and what to try where that fails, with less and less of it.

    Each comes with entries for ``Image.info`` that Pillow would not read itself.
    """
    if png.is_png(data):
        yield png.without_metadata(data)
        return
    yield data, {}
    if jpeg.is_jpeg(data):
        whole = jpeg.completed(data)
        if whole is not None:
            yield whole, {}
        yield jpeg.without_metadata(whole or data), {}
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        yield _webp(data), {}
    elif data[:2] in (b"II", b"MM"):
        if (tiff := _tiff(data)) is not None:
            yield tiff, {}
    elif data[4:8] == b"ftyp":
        yield ITEM_OF_EXIF.sub(rb"\1none", data), {}


def _webp(data: bytes) -> bytes:
    kept, at = [], 12
    while at + 8 <= len(data):
        kind, size = data[at : at + 4], int.from_bytes(data[at + 4 : at + 8], "little")
        whole = data[at : at + 8 + size + size % 2]
        if kind == b"VP8X" and len(whole) > 8:
            whole = whole[:8] + bytes([whole[8] & ~WEBP_NOTES]) + whole[9:]
        if kind in WEBP_PIXELS:
            kept.append(whole)
        at += 8 + size + size % 2
    body = b"WEBP" + b"".join(kept)
    return b"RIFF" + len(body).to_bytes(4, "little") + body


def _tiff(data: bytes) -> bytes | None:
    """The same with ``TIFF_TAGS`` only in its first directory; None where that is damaged."""
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    start, count, entry, step = ("Q", "Q", 20, 8) if big else ("L", "H", 12, 2)
    try:
        (at,) = struct.unpack_from(f"{order}{start}", data, 8 if big else 4)
        (entries,) = struct.unpack_from(f"{order}{count}", data, at)
        kept = []
        for number in range(min(entries, 4096)):
            one = data[at + step + number * entry : at + step + (number + 1) * entry]
            if len(one) == entry and struct.unpack_from(f"{order}H", one)[0] in TIFF_TAGS:
                kept.append(one)
    except (struct.error, OverflowError):  # it points outside the file
        return None
    directory = struct.pack(f"{order}{count}", len(kept)) + b"".join(kept) + bytes(8 if big else 4)
    return data[:at] + directory + data[at + len(directory) :]
