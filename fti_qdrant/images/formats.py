"""What a file is by its first bytes: for decoders that are loaded on use, and for true reasons."""

from __future__ import annotations

import threading
from contextlib import suppress
from importlib import import_module

import PIL
from PIL import Image, features

HEIC, AVIF = "HEIC", "AVIF"
BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), AVIF),
    **dict.fromkeys((b"heic", b"heix", b"hevc", b"hevx", b"heim", b"heis", b"hevm", b"hevs"), HEIC),
}
"""Brands of the ISO format, which a file lists in its first box."""

KINDS = (
    (b"\xff\xd8\xff", "JPEG"),
    (b"\x89PNG\r\n\x1a\n", "PNG"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"II+\0", "TIFF"),
    (b"MM\0+", "TIFF"),
    (b"BM", "BMP"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"\xff\x4f\xff\x51", "JPEG 2000"),
    (b"8BPS", "PSD"),
)
"""First bytes of what Pillow reads."""

OTHERS = (
    (b"\xff\x0a", "a JPEG XL picture"),
    (b"\0\0\0\x0cJXL ", "a JPEG XL picture"),
    (b"%PDF", "a PDF document"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\x1aE\xdf\xa3", "a video"),
)
"""First bytes of what it does not read, and people have among their pictures."""

TEXTS = (
    (b"<svg", "an SVG drawing"),
    (b"<!doctype html", "a web page"),
    (b"<html", "a web page"),
    (b"version https://git-lfs", "a Git LFS pointer; fetch the file with: git lfs pull"),
)
"""The same for texts, near the start and in any case."""

_lock = threading.Lock()


def prepare_decoder(data: bytes) -> None:
    """Loads the plugin that a HEIC file needs, where it is installed."""
    if _iso_kind(data) == HEIC and "HEIF" not in Image.OPEN:
        with _lock, suppress(ImportError):
            import_module("pillow_heif").register_heif_opener()


def unreadable(data: bytes) -> str:
    """Why Pillow does not take a file for a picture: the end of a sentence that names the file.

    Example:
        >>> unreadable(b"%PDF-1.7")
        'is a PDF document, not an image that Pillow can read'
    """
    kind = known_kind(data)
    if kind == HEIC and "HEIF" not in Image.OPEN:
        return "is a HEIC picture, which needs another package; pip install 'fti-qdrant[heif]'"
    if kind == AVIF and "avif" not in features.get_supported_modules():
        return (
            f"is an AVIF picture, which this Pillow {PIL.__version__} does not read; "
            "pip install --upgrade 'pillow>=11.3'"
        )
    if kind is not None:
        return f"is a damaged or truncated {kind}, or one of a kind that Pillow does not read"
    start = data[:1000].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    for signature, name in TEXTS:
        if start.startswith(signature) or (signature == b"<svg" and b"<svg" in start):
            return f"is {name}, not an image that Pillow can read"
    for signature, name in OTHERS:
        if data.startswith(signature):
            return f"is {name}, not an image that Pillow can read"
    if data[4:8] == b"ftyp":
        return "is a video, not an image that Pillow can read"
    return "is not an image that Pillow can read"


def is_cut_short(data: bytes) -> bool:
    """Whether a file lacks its end, as far as its kind tells."""
    kind = known_kind(data)
    if kind == "WebP":
        return int.from_bytes(data[4:8], "little") + 8 > len(data)
    ends = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xae\x42\x60\x82", "GIF": b"\x3b"}
    return kind in ends and ends[kind] not in data[-64:]


def known_kind(data: bytes) -> str | None:
    """The name of a kind that Pillow reads, by the first bytes."""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WebP"
    kind = _iso_kind(data)
    return kind or next((name for signature, name in KINDS if data.startswith(signature)), None)


def _iso_kind(data: bytes) -> str | None:
    """AVIF or HEIC by the brands of a file in the ISO format, of which the first may be general."""
    if data[4:8] != b"ftyp":
        return None
    box = data[8 : min(int.from_bytes(data[:4], "big"), 200)]
    brands = [box[:4], *(box[at : at + 4] for at in range(8, len(box), 4))]
    return next((BRANDS[brand] for brand in brands if brand in BRANDS), None)
