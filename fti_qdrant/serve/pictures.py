"""The pictures of the gallery's images, read where they were ingested from."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cachetools import LRUCache

from fti_qdrant.errors import BadImage, UnknownImageId
from fti_qdrant.gallery import Gallery, StoredImage
from fti_qdrant.gallery.points import OURS
from fti_qdrant.images import ImageLimits, open_image
from fti_qdrant.images.formats import known_kind
from fti_qdrant.images.read import read_bytes
from fti_qdrant.serve.problems import Refusal

if TYPE_CHECKING:
    from uuid import UUID

    from fti_qdrant.search import ComposedSearch

SMALLEST, USUAL, LARGEST = 16, 256, 1024
"""Longer side of a thumbnail, in pixels."""

DECODED_AT_ONCE = 2
"""Pictures that become thumbnails at the same time: each may take 64 million pixels of memory."""

WEBP_QUALITY = 80

MEDIA_TYPES = {
    "JPEG": "image/jpeg",
    "PNG": "image/png",
    "GIF": "image/gif",
    "WebP": "image/webp",
    "AVIF": "image/avif",
    "HEIC": "image/heic",
    "TIFF": "image/tiff",
    "BMP": "image/bmp",
    "JPEG 2000": "image/jp2",
}
"""By the names of ``images.formats.known_kind``; nothing else leaves this machine."""

Reader = Callable[[str], bytes]
"""Reads the encoded bytes of a stored URI. Raises BadImage."""


@dataclass(frozen=True)
class Picture:
    """Encoded bytes and what they are.

    Attributes:
        version: equal for equal answers; the content's hash, and the size of a thumbnail.
    """

    data: bytes
    media_type: str
    version: str


class StoredPictures:
    """Reads pictures of a gallery's images, and of nothing else. Safe to use from several threads.

    The only input from outside is an image's id; where its picture is, the gallery knows.
    """

    def __init__(self, search: ComposedSearch, most: int, read: Reader | None = None):
        """Args:
        most: bytes of thumbnails that are kept.
        read: by default as references are read: files of this machine, and URLs where the search
            allows them.
        """
        self._gallery: Gallery = search.gallery
        self._limits = search.limits
        self._read = read or _reader(search.allow_urls, search.limits)
        self._kept: LRUCache[str, Picture] = LRUCache(most, getsizeof=lambda one: len(one.data))
        self._lock = threading.Lock()
        self._decoders = threading.BoundedSemaphore(DECODED_AT_ONCE)

    def find(self, id: UUID) -> StoredImage:
        """Raises UnknownImageId."""
        found = self._gallery.retrieve([id])
        if not found:
            raise UnknownImageId(f"gallery {self._gallery.name} has no image {id}")
        return found[0]

    def original(self, image: StoredImage) -> Picture:
        """The picture as it was ingested. Raises Refusal (404) where it cannot be read."""
        data = self._bytes(image)
        media_type = MEDIA_TYPES.get(known_kind(data) or "")
        if media_type is None:  # it may be a page, a script, or another program's file
            raise _unreadable(image, "the file is not a picture that browsers or readers know")
        return Picture(data, media_type, hashlib.sha256(data).hexdigest())

    def thumbnail(self, image: StoredImage, size: int) -> Picture:
        """The upright picture as WebP, its longer side at most ``size`` pixels.

        Raises Refusal (404) where it cannot be read.
        """
        stored = thumbnail_version(image, size)
        with self._lock:
            kept = self._kept.get(stored) if stored else None
        if kept is not None:
            return kept
        data = self._bytes(image)
        with self._decoders:
            try:
                picture = open_image(data, limits=self._limits).image.copy()
            except BadImage as error:
                raise _unreadable(image, str(error)) from error
            picture.thumbnail((size, size))
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=WEBP_QUALITY)
        made = Picture(
            buffer.getvalue(), "image/webp", f"{hashlib.sha256(data).hexdigest()}-{size}"
        )
        with self._lock:
            if len(made.data) <= self._kept.maxsize:
                self._kept[made.version] = made
        return made

    def _bytes(self, image: StoredImage) -> bytes:
        uri = image.payload.get(OURS, {}).get("uri")
        if not uri:
            raise _unreadable(image, "the gallery does not store where it is")
        try:
            return self._read(str(uri))
        except BadImage as error:
            raise _unreadable(image, _without_name(str(error), str(uri))) from error


def content_version(image: StoredImage) -> str:
    """``Picture.version`` of the picture that was ingested; empty where it is not known."""
    return str(image.payload.get(OURS, {}).get("sha256", ""))


def thumbnail_version(image: StoredImage, size: int) -> str:
    """``Picture.version`` of a thumbnail; empty where it is not known."""
    version = content_version(image)
    return f"{version}-{size}" if version else ""


def _reader(allow_urls: bool, limits: ImageLimits) -> Reader:
    def read(uri: str) -> bytes:
        data, _ = read_bytes(uri, allow_urls=allow_urls, limits=limits)
        if len(data) > limits.max_bytes:
            raise BadImage(f"over the limit of {limits.max_bytes:,} bytes")
        return data

    return read


def _unreadable(image: StoredImage, reason: str) -> Refusal:
    return Refusal(
        404,
        "Picture unavailable",
        f"the picture of image {image.id} cannot be read: {reason.lstrip(': ')}",
    )


def _without_name(reason: str, uri: str) -> str:
    """A reason that does not tell where the file is."""
    return reason.replace(repr(uri), "").replace(uri, "it")
