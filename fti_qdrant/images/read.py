"""Any image source -> an RGB picture with its content hash, or ``BadImage``."""

from __future__ import annotations

import hashlib
import os
import uuid
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO, Union

import numpy as np
from PIL import Image

from fti_qdrant.errors import BadImage, first_line
from fti_qdrant.images.color import to_rgb
from fti_qdrant.images.crop import Box, Cropped
from fti_qdrant.images.decoding import (
    DRAFT_SIDE,
    check_bytes,
    check_size,
    decode_pixels,
    orientation_of,
    upright,
)
from fti_qdrant.images.limits import DEFAULT_LIMITS, ImageLimits

ImageSource = Union[str, "os.PathLike[str]", bytes, BinaryIO, Image.Image, np.ndarray, Cropped]


@dataclass(frozen=True)
class LoadedImage:
    """An upright RGB picture.

    Attributes:
        image: mode RGB in sRGB, EXIF orientation applied, transparency over white.
        sha256: of the encoded bytes where there were any, otherwise of the pixels.
        uri: path or URL it came from; None for bytes, file objects, pictures and arrays.
        size: width and height after EXIF rotation, before a large JPEG was scaled down.
        crop: the part of the picture that ``image`` is; None for all of it. ``sha256``, ``uri``
            and ``size`` are those of the whole picture.
    """

    image: Image.Image
    sha256: str
    uri: str | None
    size: tuple[int, int]
    crop: Box | None = None

    @property
    def identity(self) -> tuple[str, Box | None]:
        """Equal for equal pixels."""
        return self.sha256, self.crop


def open_image(
    source: ImageSource,
    *,
    allow_urls: bool = False,
    allow_paths: bool = True,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> LoadedImage:
    """Opens a path, bytes, file object, PIL image, numpy array or (if allowed) http(s) URL.

    Arrays are ``[H, W]`` or ``[H, W, 1 | 3 | 4]``, uint8, or floats in 0..1. ``Cropped`` gives a
    part of any of these.

    Args:
        allow_paths: False refuses every path, unread: for sources that come from others.

    Raises:
        BadImage: missing, unreadable, not an image, truncated, over the limits, a URL without
            ``allow_urls=True``, or a path with ``allow_paths=False``.
    """
    whole = _whole(source)
    if isinstance(whole, np.ndarray):
        whole = _picture_of(whole)
    if isinstance(whole, Image.Image):
        found = _from_picture(whole, limits)
    else:
        data, uri = read_bytes(whole, allow_urls=allow_urls, allow_paths=allow_paths, limits=limits)
        side = DRAFT_SIDE / source.share if isinstance(source, Cropped) else DRAFT_SIDE
        found = decode_image(data, uri=uri, limits=limits, draft_side=side)
    if isinstance(source, Cropped):
        return replace(found, image=source.of(found.image), crop=source.box)
    return found


def content_hash(
    source: ImageSource,
    *,
    allow_urls: bool = False,
    allow_paths: bool = True,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> str:
    """``LoadedImage.sha256`` of a source. Encoded images are read and not decoded.

    Raises BadImage: missing, unreadable, empty, over the limits, a URL without
    ``allow_urls=True``, or a path with ``allow_paths=False``.
    """
    whole = _whole(source)
    if isinstance(whole, (Image.Image, np.ndarray)):
        return open_image(whole, limits=limits).sha256
    data, uri = read_bytes(whole, allow_urls=allow_urls, allow_paths=allow_paths, limits=limits)
    check_bytes(data, uri, limits)
    return hashlib.sha256(data).hexdigest()


def read_bytes(
    source: str | os.PathLike[str] | bytes | BinaryIO,
    *,
    allow_urls: bool,
    allow_paths: bool = True,
    limits: ImageLimits,
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
        if not allow_paths:  # before the disk is asked: the answer must not tell what is on it
            raise BadImage(
                f"{os.fspath(source)!r} is neither an image id nor a URL, and paths are off; pass "
                "the bytes of the picture, or the id of a stored image"
            )
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
    data: bytes,
    *,
    uri: str | None = None,
    limits: ImageLimits = DEFAULT_LIMITS,
    draft_side: float = DRAFT_SIDE,
) -> LoadedImage:
    """Encoded bytes -> upright RGB picture with its content hash. Raises BadImage.

    Args:
        draft_side: as for ``decoding.decode``.
    """
    image, size = decode_pixels(data, uri=uri, limits=limits, draft_side=draft_side)
    return LoadedImage(image, hashlib.sha256(data).hexdigest(), uri, size)


def _whole(
    source: ImageSource,
) -> str | os.PathLike[str] | bytes | BinaryIO | Image.Image | np.ndarray:
    """The source without its crop."""
    if not isinstance(source, Cropped):
        return source
    if isinstance(source.image, (uuid.UUID, int)):
        raise BadImage(f"{source.image} is the id of a stored image; crop it in a query")
    return _whole(source.image)


def _from_picture(picture: Image.Image, limits: ImageLimits) -> LoadedImage:
    check_size(picture.size, limits.max_pixels, "picture")
    try:
        picture.load()
        image = upright(to_rgb(picture), orientation_of(picture))
    except Exception as error:
        raise BadImage(f"picture: cannot be decoded ({first_line(error)})") from error
    digest = hashlib.sha256(f"{image.size}".encode() + image.tobytes())
    return LoadedImage(image, digest.hexdigest(), None, image.size)


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


def check_finite(path: Path) -> None:
    """Raises BadImage for a pipe or a device, which might be read without an end."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise BadImage(f"{str(path)!r}: a pipe or a device, not a file")


def _read_file(source: str | os.PathLike[str], limits: ImageLimits) -> bytes:
    path = Path(source)
    try:
        check_finite(path)
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
