"""The pictures of the gallery's images, read where they were ingested from."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass

from anyio import CapacityLimiter
from cachetools import LRUCache

from fti_qdrant.errors import BadImage, UnknownImageId
from fti_qdrant.gallery import CollectionLayout, StoredImage
from fti_qdrant.gallery.async_gallery import AsyncGallery
from fti_qdrant.gallery.layout import OUR_LAYOUT
from fti_qdrant.gallery.point_ids import PointId
from fti_qdrant.images import ImageLimits, open_image
from fti_qdrant.images.fetch import reason_of
from fti_qdrant.images.formats import known_kind
from fti_qdrant.serve.problems import Refusal
from fti_qdrant.serve.threads import in_thread
from fti_qdrant.stored_pictures import picture_source, read_pictures

SMALLEST, USUAL, LARGEST = 16, 256, 1024
"""Longer side of a thumbnail, in pixels."""

READ_AT_ONCE = 8
"""Pictures that are read at the same time, some from other machines."""

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
    """Reads pictures of a gallery's images, and of nothing else.

    The only input from outside is an image's id; where its picture is, the gallery knows.
    """

    def __init__(self, gallery: AsyncGallery, limits: ImageLimits, most: int):
        """Args:
        limits: of each picture.
        most: bytes of thumbnails that are kept.
        """
        self._gallery = gallery
        self._limits = limits
        self._kept: LRUCache[str, Picture] = LRUCache(most, getsizeof=lambda one: len(one.data))
        self._readers = CapacityLimiter(READ_AT_ONCE)
        self._decoders = CapacityLimiter(DECODED_AT_ONCE)

    async def find(self, id: PointId) -> StoredImage:
        """Raises UnknownImageId."""
        found = await self._gallery.retrieve([id])
        if not found:
            raise UnknownImageId(f"gallery {self._gallery.name} has no image {id}")
        return found[0]

    async def original(self, image: StoredImage) -> Picture:
        """The picture as it was ingested. Raises Refusal (404) where it cannot be read."""
        data = await in_thread(self._bytes, image, limiter=self._readers)
        media_type = MEDIA_TYPES.get(known_kind(data) or "")
        if media_type is None:  # it may be a page, a script, or another program's file
            raise _unreadable(image, "the file is not a picture that browsers or readers know")
        return Picture(data, media_type, hashlib.sha256(data).hexdigest())

    async def thumbnail(self, image: StoredImage, size: int) -> Picture:
        """The upright picture as WebP, its longer side at most ``size`` pixels.

        Raises Refusal (404) where it cannot be read.
        """
        kept = self._kept.get(thumbnail_version(image, size))
        if kept is not None:
            return kept
        data = await in_thread(self._bytes, image, limiter=self._readers)
        made = await in_thread(self._small, image, data, size, limiter=self._decoders)
        if len(made.data) <= self._kept.maxsize:
            self._kept[made.version] = made
        return made

    def _small(self, image: StoredImage, data: bytes, size: int) -> Picture:
        try:
            picture = open_image(data, limits=self._limits).image.copy()
        except BadImage as error:
            raise _unreadable(image, str(error)) from error
        picture.thumbnail((size, size))
        buffer = io.BytesIO()
        picture.save(buffer, "WEBP", quality=WEBP_QUALITY)
        version = f"{hashlib.sha256(data).hexdigest()}-{size}"
        return Picture(buffer.getvalue(), "image/webp", version)

    def _bytes(self, image: StoredImage) -> bytes:
        layout = self._layout
        source = picture_source(image.payload, layout)
        if source is None:
            raise _unreadable(image, "the gallery does not store where it is")
        [found] = read_pictures([source], layout)
        if isinstance(found, Exception):
            reason = reason_of(found, source).replace(source, "it")  # it may tell a folder
            raise _unreadable(image, reason) from found
        if len(found) > self._limits.max_bytes:
            raise _unreadable(image, f"over the limit of {self._limits.max_bytes:,} bytes")
        return found

    @property
    def _layout(self) -> CollectionLayout:
        return self._gallery.spec.layout


def content_version(image: StoredImage) -> str:
    """``Picture.version`` of the picture that was ingested; empty where it is not known."""
    return str(OUR_LAYOUT.facts(image.payload).get("sha256", ""))


def thumbnail_version(image: StoredImage, size: int) -> str:
    """``Picture.version`` of a thumbnail; empty where it is not known."""
    version = content_version(image)
    return f"{version}-{size}" if version else ""


def _unreadable(image: StoredImage, reason: str) -> Refusal:
    return Refusal(
        404,
        "Picture unavailable",
        f"the picture of image {image.id} cannot be read: {reason.lstrip(': ')}",
    )
