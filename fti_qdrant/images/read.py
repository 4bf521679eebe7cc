"""Any image source -> an RGB picture with its content hash, or ``BadImage``."""

from __future__ import annotations

import hashlib
import io
import math
import os
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Union

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError

from fti_qdrant.errors import BadImage, first_line
from fti_qdrant.images.color import ToSrgb, to_rgb, to_unconverted_rgb
from fti_qdrant.images.depth import deep_colors, file_levels, scale_transparency
from fti_qdrant.images.formats import is_cut_short, prepare_decoder, unreadable
from fti_qdrant.images.jpeg import is_jpeg
from fti_qdrant.images.limits import DEFAULT_LIMITS, ImageLimits
from fti_qdrant.images.metadata import readable_forms

ImageSource = Union[str, "os.PathLike[str]", bytes, BinaryIO, Image.Image, np.ndarray]


DRAFT_SIDE = 1024
"""JPEGs are decoded at a half, a quarter or an eighth of their size (libjpeg's draft mode) where
both sides keep at least this many pixels: far more than a model uses, in a fraction of the time."""

PARTS = (1, 2, 4, 8)
"""One over these, of its width and height."""

LEAST_SIDE = 448
"""A JPEG over the limit may be reduced further, where both sides keep this many pixels: the largest
input of a usual model."""

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What turns a picture upright, by its EXIF orientation."""

SIDEWAYS = (5, 6, 7, 8)
"""EXIF orientations that swap width and height."""

CUT_SHORT = ("truncated", "unexpected end", "not enough", "end of file", "incomplete")
"""Words of decoders that miss data."""


@dataclass(frozen=True)
class LoadedImage:
    """An upright RGB picture.

    Attributes:
        image: mode RGB in sRGB, EXIF orientation applied, transparency over white.
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
                f"{source!r} is a URL, and URLs are off; allow them with allow_urls=True"
            )
        from fti_qdrant.images.url import fetch

        return fetch(source, limits), source
    if isinstance(source, (str, os.PathLike)):
        return _read_file(source, limits), os.fspath(source)
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
    decoded = decode(data, uri=uri, limits=limits)
    return decoded.in_srgb(), decoded.size


@dataclass(frozen=True)
class DecodedImage:
    """An upright RGB picture whose colors may still be those of its own profile.

    Attributes:
        colors: what converts them; None for sRGB.
        size: as ``LoadedImage.size``.
    """

    image: Image.Image
    colors: ToSrgb | None
    size: tuple[int, int]

    def in_srgb(self) -> Image.Image:
        return self.colors.picture(self.image) if self.colors else self.image

    def prepared(self, pixels: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
        """The picture as a model takes it, uint8 ``[3, size, size]``.

        Colors are converted after scaling, where it costs a fraction of the time.

        Args:
            pixels: ``Preprocess.pixels``.
        """
        scaled = pixels(self.image)
        return self.colors.pixels(scaled) if self.colors else scaled


def decode(
    data: bytes, *, uri: str | None = None, limits: ImageLimits = DEFAULT_LIMITS
) -> DecodedImage:
    """Encoded bytes -> an upright picture. What is wrong with metadata does not matter.

    Raises BadImage.
    """
    label = _check_bytes(data, uri, limits)
    prepare_decoder(data)
    failure: Exception | None = None
    for form, info in readable_forms(data):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _decoded(form, info, limits, label)
        except BadImage:
            raise
        except Exception as error:  # damaged files raise nearly anything inside Pillow's decoders
            failure = error
    raise _refusal(label, failure, data, limits) from failure


def _decoded(data: bytes, info: dict[str, Any], limits: ImageLimits, label: str) -> DecodedImage:
    picture = _opened(data, limits)
    picture.info.update(info)
    size = picture.size
    _shrink(picture, limits, label)
    scale_transparency(picture)
    picture.load()
    levels = file_levels(picture, data)
    rgb, colors = to_unconverted_rgb(deep_colors(picture, data, levels), levels)
    orientation = _orientation(picture)
    upright = rgb.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else rgb
    return DecodedImage(upright, colors, size[::-1] if orientation in SIDEWAYS else size)


def _opened(data: bytes, limits: ImageLimits) -> Image.Image:
    if is_jpeg(data):  # of any size, and without the other pictures that follow in some
        try:
            return JpegImagePlugin.JpegImageFile(io.BytesIO(data))
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            raise UnidentifiedImageError(first_line(error)) from error
    own = Image.MAX_IMAGE_PIXELS
    if own is not None and limits.max_pixels > own:  # Pillow's own limit, one for the process
        Image.MAX_IMAGE_PIXELS = limits.max_pixels
    return Image.open(io.BytesIO(data))


def _shrink(picture: Image.Image, limits: ImageLimits, label: str) -> None:
    """Has a large JPEG decoded at a part of its size. Raises BadImage over the limits."""
    if not isinstance(picture, JpegImagePlugin.JpegImageFile):
        return _check_size(picture.size, limits.max_pixels, label)
    most = limits.in_jpeg("progressive" in picture.info)
    _check_size(picture.size, most, label)
    width, height = picture.size
    usual = max(part for part in PARTS if part == 1 or min(width, height) // part >= DRAFT_SIDE)
    for part in PARTS:
        fits = math.ceil(width / part) * math.ceil(height / part) <= limits.max_pixels
        if part >= usual and fits and (part == usual or min(width, height) // part >= LEAST_SIDE):
            picture.draft(None, (width // part, height // part))
            return None
    return _check_size(picture.size, limits.max_pixels, label)


def _orientation(picture: Image.Image) -> int:
    """By EXIF or XMP; 1 where they cannot be read."""
    try:
        found = picture.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # broken in one of many ways
        return 1
    return found if isinstance(found, int) and found in UPRIGHT else 1


def _refusal(label: str, error: Exception | None, data: bytes, limits: ImageLimits) -> BadImage:
    """What is wrong with a file that cannot be decoded."""
    if isinstance(error, Image.DecompressionBombError):
        return BadImage(
            f"{label}: far over the limit of {limits.max_pixels:,} pixels; scale it down, or raise "
            "max_pixels (--max-pixels)"
        )
    if isinstance(error, UnidentifiedImageError):
        return BadImage(f"{label} {unreadable(data)}")
    if error is None or isinstance(error, MemoryError):
        return BadImage(f"{label}: too large for the memory of this machine; scale it down")
    reason = first_line(error)
    cut = is_cut_short(data) or any(words in reason.lower() for words in CUT_SHORT)
    return BadImage(
        f"{label}: cannot be decoded ({reason}); the file is {'truncated' if cut else 'damaged'}"
    )


def _from_picture(picture: Image.Image, limits: ImageLimits) -> LoadedImage:
    _check_size(picture.size, limits.max_pixels, "picture")
    try:
        picture.load()
        upright = to_rgb(picture)
        orientation = _orientation(picture)
        upright = upright.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else upright
    except Exception as error:
        raise BadImage(f"picture: cannot be decoded ({first_line(error)})") from error
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


def _read_file(source: str | os.PathLike[str], limits: ImageLimits) -> bytes:
    path = Path(source)
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):  # it might be read without end
            raise BadImage(f"{str(path)!r}: a pipe or a device, not a file")
        with path.open("rb") as file:
            return file.read(limits.max_bytes + 1)
    except IsADirectoryError:
        raise BadImage(f"{str(path)!r} is a directory; pass an image file") from None
    except FileNotFoundError:
        if "://" in os.fspath(source):
            raise BadImage(
                f"{os.fspath(source)!r} is not on this machine; pass a copy of the image, or its "
                "bytes"
            ) from None
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


def _check_size(size: tuple[int, int], most: int, label: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BadImage(f"{label}: {width} x {height} pixels; the image is empty")
    if width * height > most:
        raise BadImage(
            f"{label}: {width} x {height} pixels is over the limit of {most:,}; scale it down, or "
            "raise max_pixels (--max-pixels)"
        )
