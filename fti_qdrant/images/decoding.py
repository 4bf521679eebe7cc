"""Encoded bytes -> an upright RGB picture, whatever is wrong with its metadata."""

from __future__ import annotations

import io
import math
import struct
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import ExifTags, Image, JpegImagePlugin, UnidentifiedImageError

from fti_qdrant.errors import BadImage, first_line
from fti_qdrant.images.color import ToSrgb, to_unconverted_rgb
from fti_qdrant.images.depth import deep_colors, file_levels, scale_transparency
from fti_qdrant.images.formats import is_cut_short, prepare_decoder, unreadable
from fti_qdrant.images.jpeg import is_jpeg
from fti_qdrant.images.limits import DEFAULT_LIMITS, ImageLimits
from fti_qdrant.images.metadata import readable_forms

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
    data: bytes,
    *,
    uri: str | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    draft_side: float = DRAFT_SIDE,
) -> DecodedImage:
    """Encoded bytes -> an upright picture. What is wrong with metadata does not matter.

    Args:
        draft_side: pixels that both sides of a JPEG keep at least where it is decoded at a part
            of its size; more for a picture of which only a part is used.

    Raises BadImage.
    """
    label = check_bytes(data, uri, limits)
    prepare_decoder(data)
    failure: Exception | None = None
    for form, info in readable_forms(data):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _decoded(form, info, limits, label, draft_side)
        except BadImage:
            raise
        except Exception as error:  # damaged files raise nearly anything inside Pillow's decoders
            failure = error
    raise _refusal(label, failure, data, limits) from failure


def decode_pixels(
    data: bytes,
    *,
    uri: str | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    draft_side: float = DRAFT_SIDE,
) -> tuple[Image.Image, tuple[int, int]]:
    """Encoded bytes -> ``LoadedImage``'s image and size, without hashing the bytes.

    Of an animation, the first frame. Raises BadImage.
    """
    decoded = decode(data, uri=uri, limits=limits, draft_side=draft_side)
    return decoded.in_srgb(), decoded.size


def _decoded(
    data: bytes, info: dict[str, Any], limits: ImageLimits, label: str, draft_side: float
) -> DecodedImage:
    picture = _opened(data, limits)
    picture.info.update(info)
    size = picture.size
    _shrink(picture, limits, label, draft_side)
    scale_transparency(picture)
    picture.load()
    levels = file_levels(picture, data)
    rgb, colors = to_unconverted_rgb(deep_colors(picture, data, levels), levels)
    orientation = orientation_of(picture)
    sideways = orientation in SIDEWAYS
    return DecodedImage(upright(rgb, orientation), colors, size[::-1] if sideways else size)


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


def _shrink(picture: Image.Image, limits: ImageLimits, label: str, draft_side: float) -> None:
    """Has a large JPEG decoded at a part of its size. Raises BadImage over the limits."""
    if not isinstance(picture, JpegImagePlugin.JpegImageFile):
        return check_size(picture.size, limits.max_pixels, label)
    most = limits.in_jpeg("progressive" in picture.info)
    check_size(picture.size, most, label)
    width, height = picture.size
    usual = max(part for part in PARTS if part == 1 or min(width, height) // part >= draft_side)
    for part in PARTS:
        fits = math.ceil(width / part) * math.ceil(height / part) <= limits.max_pixels
        if part >= usual and fits and (part == usual or min(width, height) // part >= LEAST_SIDE):
            picture.draft(None, (width // part, height // part))
            return None
    return check_size(picture.size, limits.max_pixels, label)


def upright(picture: Image.Image, orientation: int) -> Image.Image:
    """The picture turned as its orientation says."""
    return picture.transpose(UPRIGHT[orientation]) if orientation in UPRIGHT else picture


def orientation_of(picture: Image.Image) -> int:
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


def check_bytes(data: bytes, uri: str | None, limits: ImageLimits) -> str:
    """Returns the image's label for messages. Raises BadImage."""
    label = repr(uri) if uri else "image bytes"
    if not data:
        raise BadImage(f"{label}: 0 bytes; the file is empty")
    if len(data) > limits.max_bytes:
        raise BadImage(f"{label}: over the limit of {limits.max_bytes:,} bytes")
    return label


def check_size(size: tuple[int, int], most: int, label: str) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise BadImage(f"{label}: {width} x {height} pixels; the image is empty")
    if width * height > most:
        raise BadImage(
            f"{label}: {width} x {height} pixels is over the limit of {most:,}; scale it down, or "
            "raise max_pixels (--max-pixels)"
        )
