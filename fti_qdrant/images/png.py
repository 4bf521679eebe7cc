"""PNG's chunks: what a picture needs of them, without what may be wrong with the others."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

SIGNATURE = b"\x89PNG\r\n\x1a\n"

PIXELS = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
"""What a decoder cannot do without."""

MOST_UNPACKED = 16_000_000
"""Bytes of an unpacked color profile; Pillow refuses pictures with more than 1 MB of it."""

ORIENTATION_TEXTS = (b"XML:com.adobe.xmp", b"Raw profile type exif")
"""Texts in which programs store the orientation."""

MOST_TEXT = 1_000_000
"""Bytes of such a text, unpacked; Pillow refuses pictures with more."""

TIFF_HEADERS = (b"II*\0", b"MM\0*")


@dataclass(frozen=True)
class Chunk:
    kind: bytes
    body: memoryview
    whole: memoryview
    """With its length, kind and checksum."""

    @property
    def intact(self) -> bool:
        """Whether its checksum is right."""
        return zlib.crc32(self.body, zlib.crc32(self.kind)) == _number(self.whole[-4:])


def is_png(data: bytes) -> bool:
    return data.startswith(SIGNATURE)


def chunks(data: bytes) -> Iterator[Chunk]:
    """The chunks of a PNG, as far as they are whole."""
    view, at = memoryview(data), len(SIGNATURE)
    while at + 12 <= len(data):
        length = _number(view[at : at + 4])
        end = at + 12 + length
        if end > len(data):
            return
        yield Chunk(bytes(view[at + 4 : at + 8]), view[at + 8 : end - 4], view[at:end])
        at = end


def without_metadata(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """A PNG of the same pixels without texts, times, animation and the like.

    Of metadata it keeps what decides about the looks, where it is sound: transparency, color,
    orientation. What Pillow would not take in the file comes as entries for ``Image.info``.
    """
    kept = [memoryview(SIGNATURE)]
    info: dict[str, Any] = {}
    at = len(SIGNATURE)
    for chunk in chunks(data):
        at += len(chunk.whole)
        if chunk.kind == b"iCCP":
            info["icc_profile"] = _profile(chunk)
        elif chunk.kind == b"cICP" and len(chunk.body) == 4 and chunk.intact:
            info["cicp"] = tuple(chunk.body[:2])
        elif chunk.kind in PIXELS or _is_sound(chunk):
            kept.append(chunk.whole)
    rest = memoryview(data)[at:]
    if rest[4:8] == b"IDAT":  # a truncated file, which the decoder is to find out
        kept.append(rest)
    return b"".join(kept), {name: value for name, value in info.items() if value}


def significant_bits(data: bytes) -> int | None:
    """Of each sample, where the file stores 16 bits and says that fewer are used."""
    depth = 0
    for chunk in chunks(data):
        if chunk.kind == b"IHDR" and len(chunk.body) >= 9:
            depth = chunk.body[8]
        elif chunk.kind == b"sBIT" and chunk.body and chunk.intact:
            bits = max(chunk.body[:3])
            return bits if depth == 16 and 8 < bits < 16 else None
        elif chunk.kind == b"IDAT" or depth not in (0, 16):
            return None
    return None


def _is_sound(chunk: Chunk) -> bool:
    sizes = {b"gAMA": 4, b"cHRM": 32, b"sRGB": 1}
    if chunk.kind in sizes:
        return len(chunk.body) == sizes[chunk.kind] and chunk.intact
    if chunk.kind in (b"tRNS", b"sBIT"):
        return chunk.intact
    if chunk.kind == b"eXIf":
        return bytes(chunk.body[:4]) in TIFF_HEADERS and chunk.intact
    if chunk.kind in (b"iTXt", b"zTXt", b"tEXt"):
        text = bytes(chunk.body)
        keyword = text.partition(b"\0")[0]
        return keyword in ORIENTATION_TEXTS and chunk.intact and _is_short(chunk.kind, text)
    return False


def _is_short(kind: bytes, text: bytes) -> bool:
    """Whether a text is short when it is unpacked."""
    _, _, rest = text.partition(b"\0")
    if kind == b"tEXt" or (kind == b"iTXt" and rest[:1] == b"\0"):
        return len(text) <= MOST_TEXT
    packed = rest[1:] if kind == b"zTXt" else rest[2:].split(b"\0", 2)[-1]
    return _unpacked(packed, MOST_TEXT) is not None


def _profile(chunk: Chunk) -> bytes | None:
    _, _, rest = bytes(chunk.body).partition(b"\0")
    return _unpacked(rest[1:], MOST_UNPACKED) if rest[:1] == b"\0" else None


def _unpacked(packed: bytes, most: int) -> bytes | None:
    unpacker = zlib.decompressobj()
    try:
        found = unpacker.decompress(packed, most)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else found


def _number(four: memoryview) -> int:
    return int(struct.unpack(">I", four)[0])
