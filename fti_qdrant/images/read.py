"""Any image source -> an RGB picture with its content hash, or ``BadImage``."""

from __future__ import annotations

import hashlib
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Union

import numpy as np
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError

from fti_qdrant.errors import BadImage
from fti_qdrant.images.limits import DEFAULT_LIMITS, ImageLimits

ImageSource = Union[str, "os.PathLike[str]", bytes, BinaryIO, Image.Image, np.ndarray]


DRAFT_SIDE = 1024
"""JPEGs are decoded at a half, a quarter or an eighth of their size (libjpeg's draft mode) where
both sides keep at least this many pixels: far more than a model uses, in a fraction of the time."""

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""


@dataclass(frozen=True)
class LoadedImage:
    """An upright RGB picture.

    Attributes:
        image: mode RGB, EXIF orientation applied, transparency over white.
        sha256: of the encoded bytes where there were any, otherwise of the pixels.
        uri: path or URL it came from; None for bytes, file objects, pictures and arrays.
        size: width and height after EXIF rotation, before a large JPEG was scaled down.
    """

    image: Image.Image
    sha256: str
    uri: str | None
    size: tuple[int, int]


def open_image(
    source: ImageSource, *, allow_urls: bool = False, limits: ImageLimits = DEFAULT_LIMITS
) -> LoadedImage:
    """Opens a path, bytes, file object, PIL image, numpy array or (if allowed) http(s) URL.

    Arrays are ``[H, W]`` or ``[H, W, 1 | 3 | 4]``, uint8, or floats in 0..1.

    Raises:
        BadImage: missing, unreadable, not an image, truncated, over the limits, or a URL
            without ``allow_urls=True``.
    """
    if isinstance(source, Image.Image):
        return _from_picture(source, limits)
    if isinstance(source, np.ndarray):
        return _from_picture(_picture_of(source), limits)
    data, uri = read_bytes(source, allow_urls=allow_urls, limits=limits)
    return decode_image(data, uri=uri, limits=limits)


def content_hash(
    source: ImageSource, *, allow_urls: bool = False, limits: ImageLimits = DEFAULT_LIMITS
) -> str:
    """``LoadedImage.sha256`` of a source. Encoded images are read and not decoded.

    Raises BadImage: missing, unreadable, empty, over the limits, or a URL without
    ``allow_urls=True``.
    """
    if isinstance(source, (Image.Image, np.ndarray)):
        return open_image(source, limits=limits).sha256
    data, uri = read_bytes(source, allow_urls=allow_urls, limits=limits)
    _check_bytes(data, uri, limits)
    return hashlib.sha256(data).hexdigest()


def read_bytes(
    source: str | os.PathLike[str] | bytes | BinaryIO, *, allow_urls: bool, limits: ImageLimits
) -> tuple[bytes, str | None]:
    """The encoded bytes of a source, and its path or URL. Raises BadImage."""
    if isinstance(source, (bytes, bytearray, memoryview)):
        return bytes(source), None
    if isinstance(source, str) and is_url(source):
        if not allow_urls:
            raise BadImage(
                f"{source!r} is a URL, and URLs are off; open the search with allow_urls=True"
            )
        from fti_qdrant.images.url import fetch

        return fetch(source, limits), source
    if isinstance(source, (str, os.PathLike)):
        return _read_file(Path(source), limits), os.fspath(source)
    if hasattr(source, "read"):
        try:
            data = source.read(limits.max_bytes + 1)
        except (OSError, ValueError) as error:  # write-only or closed
            raise BadImage(f"{source!r} cannot be read ({error})") from error
        if not isinstance(data, bytes):
            raise BadImage(f"{source!r} yields {type(data).__name__}, not bytes; open it as 'rb'")
        return data, None
    raise BadImage(
        f"an image cannot be a {type(source).__name__}; pass a path, bytes, a binary file, "
        "a PIL image or a numpy array"
    )


def is_url(source: str) -> bool:
    """Whether a source is an http(s) URL, and not a path."""
    return source.lower().startswith(("http://", "https://"))


def decode_image(
    data: bytes, *, uri: str | None = None, limits: ImageLimits = DEFAULT_LIMITS
) -> LoadedImage:
    """Encoded bytes -> upright RGB picture with its content hash. Raises BadImage."""
    image, size = decode_pixels(data, uri=uri, limits=limits)
    return LoadedImage(image, hashlib.sha256(data).hexdigest(), uri, size)


def decode_pixels(
    data: bytes, *, uri: str | None = None, limits: ImageLimits = DEFAULT_LIMITS
) -> tuple[Image.Image, tuple[int, int]]:
    """Encoded bytes -> ``LoadedImage``'s image and size, without hashing the bytes.

    Of an animation, the first frame. Raises BadImage.
    """
    label = _check_bytes(data, uri, limits)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            picture = Image.open(io.BytesIO(data))
            _check_size(picture, limits, label)
            size = picture.size
            picture.draft(None, (DRAFT_SIDE, DRAFT_SIDE))
            picture.load()
            turned = picture.getexif().get(ExifTags.Base.Orientation, 1) in SIDEWAYS
            upright = to_rgb(ImageOps.exif_transpose(picture))
    except Image.DecompressionBombError:
        raise BadImage(
            f"{label}: far over the limit of {limits.max_pixels:,} pixels; scale it down first"
        ) from None
    except UnidentifiedImageError:
        raise BadImage(f"{label}: not an image that Pillow can read") from None
    except BadImage:
        raise
    except Exception as error:  # damaged files raise nearly anything inside Pillow's decoders
        raise BadImage(f"{label}: cannot be decoded ({error}); is it truncated?") from error
    return upright, (size[1], size[0]) if turned else size


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any Pillow mode to RGB: transparency over white, 16-bit and float grays scaled to 8 bits."""
    if picture.mode == "RGB" and "transparency" not in picture.info:
        return picture
    if picture.mode in ("I", "F", "I;16", "I;16L", "I;16B", "I;16N"):
        return _gray_to_8_bits(picture).convert("RGB")
    if picture.has_transparency_data:
        straight = (picture.convert("LA") if picture.mode == "La" else picture).convert("RGBA")
        white = Image.new("RGBA", straight.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, straight).convert("RGB")
    return picture.convert("RGB")


def _gray_to_8_bits(picture: Image.Image) -> Image.Image:
    """Pillow clips deep grays at 255; scale by their range instead (16 bits, or 0..1 floats)."""
    values = np.nan_to_num(np.asarray(picture, dtype=np.float64), posinf=np.inf)
    if picture.mode == "F":
        full = 1.0 if values.max(initial=0.0) <= 1.0 else 255.0
    else:
        full = 65535.0 if values.max(initial=0.0) > 255 or "16" in picture.mode else 255.0
    return Image.fromarray((np.clip(values / full, 0, 1) * 255).round().astype(np.uint8))


def _from_picture(picture: Image.Image, limits: ImageLimits) -> LoadedImage:
    _check_size(picture, limits, "picture")
    try:
        upright = to_rgb(ImageOps.exif_transpose(picture))
    except Exception as error:
        raise BadImage(f"picture: cannot be decoded ({error})") from error
    digest = hashlib.sha256(f"{upright.size}".encode() + upright.tobytes())
    return LoadedImage(upright, digest.hexdigest(), None, upright.size)


def _picture_of(array: np.ndarray) -> Image.Image:
    shape_fits = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (1, 3, 4))
    if not shape_fits or array.size == 0:
        raise BadImage(
            f"an array of shape {array.shape} is not a picture; pass [H, W] or [H, W, 1 | 3 | 4]"
        )
    if array.dtype.kind == "f":
        if not np.isfinite(array).all() or array.min() < 0 or array.max() > 1:
            raise BadImage("a float array must hold finite values in 0..1; divide by 255 first")
        array = (array * 255).round().astype(np.uint8)
    if array.dtype != np.uint8:
        raise BadImage(f"an array of {array.dtype} is not a picture; pass uint8, or floats in 0..1")
    return Image.fromarray(array[:, :, 0] if array.ndim == 3 and array.shape[2] == 1 else array)


def _read_file(path: Path, limits: ImageLimits) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except IsADirectoryError:
        raise BadImage(f"{str(path)!r} is a directory; pass an image file") from None
    except FileNotFoundError:
        raise BadImage(f"{str(path)!r}: no such file") from None
    except (OSError, ValueError) as error:
        raise BadImage(f"{str(path)!r}: cannot be read ({error})") from error


def _check_bytes(data: bytes, uri: str | None, limits: ImageLimits) -> str:
    """Returns the image's label for messages. Raises BadImage."""
    label = repr(uri) if uri else "image bytes"
    if not data:
        raise BadImage(f"{label}: 0 bytes; the file is empty")
    if len(data) > limits.max_bytes:
        raise BadImage(f"{label}: over the limit of {limits.max_bytes:,} bytes")
    return label


def _check_size(picture: Image.Image, limits: ImageLimits, label: str) -> None:
    width, height = picture.size
    if width < 1 or height < 1:
        raise BadImage(f"{label}: {width} x {height} pixels; the image is empty")
    if width * height > limits.max_pixels:
        raise BadImage(
            f"{label}: {width} x {height} pixels is over the limit of {limits.max_pixels:,}; "
            "scale it down first"
        )
