"""Image files that Pillow cannot write, put together by hand."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image


def encoded(picture: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows: np.ndarray, depth: int, color: int, *extra: bytes) -> bytes:
    """A PNG.

    Args:
        rows: ``[H, W]`` or ``[H, W, channels]`` samples.
        depth: bits of each.
        color: PNG's color type.
        extra: chunks before the pixels.
    """
    height, width = rows.shape[:2]
    flat = rows.reshape(height, -1)
    if depth == 16:
        packed = [row.astype(">u2").tobytes() for row in flat]
    else:
        per_byte = 8 // depth
        flat = np.pad(flat, ((0, 0), (0, -flat.shape[1] % per_byte)))
        shifts = np.arange(per_byte)[::-1] * depth
        packed = [
            (row.reshape(-1, per_byte) << shifts).sum(1).astype(np.uint8).tobytes() for row in flat
        ]
    header = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in packed))
    parts = [chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def with_chunks(data: bytes, *extra: bytes) -> bytes:
    """A PNG with more chunks, after its header."""
    return data[:33] + b"".join(extra) + data[33:]


def with_segments(data: bytes, *extra: tuple[int, bytes]) -> bytes:
    """A JPEG with more segments (marker, body), at its start."""
    written = (
        bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in extra
    )
    return data[:2] + b"".join(written) + data[2:]


def tiff(
    samples: np.ndarray,
    bits: int,
    tags: dict[int, tuple[int, Any]] | None = None,
    order: str = "<",
    deflate: bool = False,
) -> bytes:
    """A TIFF of ``[H, W]`` or ``[H, W, 3]`` samples, whose bytes are stored as given.

    Args:
        bits: for each sample; 12 packs two into three bytes.
        deflate: whether the samples are compressed.
        tags: number -> (type, values), beside those that every TIFF has.
    """
    height, width = samples.shape[:2]
    channels = samples.shape[2] if samples.ndim == 3 else 1
    if bits == 12:
        first, second = samples.reshape(-1, 2).T.astype(int)
        parts = [first >> 4, (first & 15) << 4 | second >> 8, second & 255]
        data = np.stack(parts, axis=1).astype(np.uint8).tobytes()
    else:
        data = samples.tobytes()
    data = zlib.compress(data) if deflate else data
    entries: dict[int, tuple[int, Any]] = {
        256: (3, width),
        257: (3, height),
        258: (3, [bits] * channels),
        259: (3, 8 if deflate else 1),
        262: (3, 2 if channels == 3 else 1),
        273: (4, 8),
        277: (3, channels),
        278: (3, height),
        279: (4, len(data)),
        **(tags or {}),
    }
    directory, extra = b"", b""
    at = 8 + len(data) + len(data) % 2
    behind = at + 2 + 12 * len(entries) + 4
    for tag, (kind, values) in sorted(entries.items()):
        if isinstance(values, bytes):
            body, count = values, len(values)
        else:
            many = values if isinstance(values, list) else [values]
            letter = {1: "B", 3: "H", 4: "L", 11: "f", 12: "d", 8: "h", 9: "l"}[kind]
            body, count = struct.pack(f"{order}{len(many)}{letter}", *many), len(many)
        if len(body) > 4:
            where = behind + len(extra)
            extra += body + bytes(len(body) % 2)
            body = struct.pack(f"{order}L", where)
        directory += struct.pack(f"{order}HHL", tag, kind, count) + body.ljust(4, b"\0")
    start = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}L", at)
    pixels = data + bytes(len(data) % 2)
    return start + pixels + struct.pack(f"{order}H", len(entries)) + directory + bytes(4) + extra
