"""JPEG's segments: a picture without its metadata, and one that lacks only its end marker."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from PIL import Image

START, END = b"\xff\xd8", b"\xff\xd9"
SOS, SOF_PROGRESSIVE = 0xDA, (0xC2, 0xC6, 0xCA, 0xCE)
SOF = tuple(marker for marker in range(0xC0, 0xD0) if marker not in (0xC4, 0xC8, 0xCC))
"""Start of scan; start of frame."""

FILLERS = 4
"""Data that may follow a truncated scan; one alone might by chance decode to what is there."""

ADOBE_BYTES = 12
"""Of the segment that says how colors are stored."""

COEFFICIENTS = 64
"""Of each block; a progressive file sends them in parts."""


@dataclass(frozen=True)
class Segment:
    """One marker with its parameters; of a scan, also its data."""

    marker: int
    body: bytes
    whole: bytes


def is_jpeg(data: bytes) -> bool:
    return data.startswith(START + b"\xff")


def segments(data: bytes) -> Iterator[Segment]:
    """The segments after the start marker, as far as they are whole. The end marker is none."""
    at = len(START)
    while (at := data.find(b"\xff", at)) >= 0 and at + 4 <= len(data):
        marker = data[at + 1]
        if marker in (0x00, 0x01, 0xFF) or 0xD0 <= marker <= 0xD7:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == END[1]:
            return
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        body = data[at + 4 : end]
        if marker == SOS:
            end = _end_of_scan(data, end)
        yield Segment(marker, body, data[at:end])
        at = end


def without_metadata(data: bytes) -> bytes:
    """The same pixels without comments and application data, but for what decides about color."""
    kept = [START]
    for segment in segments(data):
        application = 0xE0 <= segment.marker <= 0xEF or segment.marker == 0xFE
        adobe = segment.marker == 0xEE and len(segment.body) >= ADOBE_BYTES
        profile = segment.marker == 0xE2 and segment.body.startswith(b"ICC_PROFILE\0")
        if adobe or profile or not application:
            kept.append(segment.whole)
    return b"".join([*kept, END if data.rstrip(b"\0").endswith(END) else b""])


def completed(data: bytes) -> bytes | None:
    """A JPEG that lacks only its end marker, with one; None for all others.

    The data of the last scan are complete where what follows them changes no pixel. A progressive
    file must also have sent all of its coefficients.
    """
    data = data[:-1] if data.endswith(b"\xff") else data
    if not is_jpeg(data) or data.endswith(END) or not _all_sent(data):
        return None
    try:
        whole = np.asarray(Image.open(io.BytesIO(data + END)))
        others = (Image.open(io.BytesIO(data + _filler(seed) + END)) for seed in range(FILLERS))
        unchanged = all(np.array_equal(whole, np.asarray(one)) for one in others)
    except Exception:  # damaged in another way, which the decoder tells better
        return None
    return data + END if unchanged else None


def _end_of_scan(data: bytes, at: int) -> int:
    """Where the next marker is that is neither a stuffed byte nor a restart."""
    while (at := data.find(b"\xff", at)) >= 0:
        if at + 1 < len(data) and (data[at + 1] == 0 or 0xD0 <= data[at + 1] <= 0xD7):
            at += 2
        elif at + 1 < len(data) and data[at + 1] == 0xFF:
            at += 1
        else:
            return at
    return len(data)


def _all_sent(data: bytes) -> bool:
    """Whether the scans have sent every bit of every coefficient of every component."""
    sent: dict[int, set[int]] = {}
    for segment in segments(data):
        body = segment.body
        if segment.marker in SOF and len(body) > 5:
            sent = {body[at]: set() for at in range(6, len(body) - 2, 3)}
        elif segment.marker == SOS and body and len(body) >= 4 + 2 * body[0]:
            components = body[1 : 1 + 2 * body[0] : 2]
            first, last, low_bit = body[-3], body[-2], body[-1] & 15
            for component in components:
                if low_bit == 0:
                    sent.setdefault(component, set()).update(range(first, last + 1))
    return bool(sent) and all(len(one) >= COEFFICIENTS for one in sent.values())


def _filler(seed: int) -> bytes:
    """Data that no decoder takes for the end: noise after each of the eight restart markers."""
    noise = b"".join(hashlib.sha256(bytes([seed, number])).digest() for number in range(8))
    noise = noise.replace(b"\xff", b"\x55")
    restarts = (b"\xff" + bytes([0xD0 + number]) + noise for number in range(8))
    return noise + b"".join(restarts)
