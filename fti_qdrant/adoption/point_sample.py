"""Some points of a collection: their vectors, their ids, and the pictures that they are of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from PIL import Image
from qdrant_client import QdrantClient, models

from fti_qdrant.adoption.collection_shape import CollectionShape
from fti_qdrant.errors import BadCollection, BadImage, first_line
from fti_qdrant.gallery import CollectionLayout, StoredImage
from fti_qdrant.gallery.point_conversion import stored_images
from fti_qdrant.gallery.request_limits import RequestLimits
from fti_qdrant.gallery.server_errors import translated
from fti_qdrant.images import DecodedImage, ImageLimits, decode
from fti_qdrant.images.fetch import reason_of
from fti_qdrant.images.inline import is_inline
from fti_qdrant.stored_pictures import picture_source, read_pictures

LEAST_POINTS = 32
"""So many are looked at, if fewer images or none are to be recomputed."""

UNIT_TOLERANCE = 0.01
"""Of the length of vectors that are compared by their dot product; float16 is as near as this."""


def sample_points(
    client: QdrantClient, shape: CollectionShape, layout: CollectionLayout, count: int
) -> list[StoredImage]:
    """Random points that have the image vector; more than ``count`` where that is little.

    Raises BadCollection where there are none; GalleryUnavailable.
    """
    name = shape.name
    limits = RequestLimits.of(shape.config, layout.image_vector)
    with translated(name):
        request = models.QueryRequest(
            query=models.SampleQuery(sample=models.Sample.RANDOM),
            limit=limits.page(max(count, LEAST_POINTS)),
            with_payload=True,
            with_vector=[layout.image_vector] if layout.image_vector else True,
        )
        found = client.query_batch_points(shape.collection, [request])[0].points
    images = list(stored_images(found, layout).values())
    if not images:
        vector = f"vector {layout.image_vector!r}" if layout.image_vector else "vector"
        what = (
            f"no point of {name} that was looked at has a {vector}" if found else f"{name} is empty"
        )
        raise BadCollection(
            f"{what}: there is nothing to search, and nothing to check the model by; fill it "
            "first, or make a new gallery with fti-ingest"
        )
    return images


def check_vectors(images: Sequence[StoredImage], distance: models.Distance, name: str) -> None:
    """Whether the stored vectors can be compared by cosine with those of a CLIP model.

    Raises BadCollection: zero or binary vectors, or a dot product of vectors of other lengths.
    """
    vectors = np.stack([image.vector for image in images])
    lengths = np.linalg.norm(vectors, axis=1)
    if not np.isfinite(lengths).all() or not lengths.any():
        raise BadCollection(f"{name}: the stored vectors are zero or not finite; embed them again")
    if all(len(np.unique(vector)) <= 2 for vector in vectors):
        raise BadCollection(
            f"{name}: its vectors have two different values each, so they were made binary before "
            "they were stored, and the original ones are gone; store float vectors, and let Qdrant "
            "quantize them"
        )
    if distance == models.Distance.DOT and (np.abs(lengths - 1) > UNIT_TOLERANCE).any():
        odd = lengths[np.abs(lengths - 1).argmax()]
        raise BadCollection(
            f"{name}: the distance is Dot, and a stored vector has the length {odd:.3g}, not 1, so "
            "scores are no cosines; normalize the vectors, or make a collection with Cosine"
        )


USUAL_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".avif")


def check_uri_field(images: Sequence[StoredImage], layout: CollectionLayout, name: str) -> None:
    """Raises BadCollection where no image has a text in the field that says where images are."""
    if layout.uri_field is not None and not any(layout.stored_uri(one.payload) for one in images):
        raise BadCollection(
            f"{name}: no image that was looked at has a text in the field {layout.uri_field!r}; "
            f"fields are: {_fields(images)}"
        )


@dataclass(frozen=True)
class EncodedPicture:
    """A picture that is decoded each time: many decoded ones could fill the memory."""

    data: bytes = field(repr=False)
    source: str
    limits: ImageLimits

    def decoded(self) -> DecodedImage:
        """Raises BadImage."""
        return decode(self.data, uri=self.source, limits=self.limits)

    def prepared(self, pixels: Callable[[Image.Image], np.ndarray]) -> np.ndarray:
        """See ``DecodedImage.prepared``."""
        return self.decoded().prepared(pixels)


@dataclass(frozen=True)
class PictureSample:
    """Pictures with the vectors that are stored for them.

    Attributes:
        pictures: n readable ones.
        vectors: ``[n, d]``, of unit length.
        unreadable: number of images that were tried, and cannot be read.
        reason: why not the first of them, or why none was tried.
    """

    pictures: Sequence[EncodedPicture | DecodedImage] = ()
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    unreadable: int = 0
    reason: str = ""


def read_sample(
    images: Sequence[StoredImage], layout: CollectionLayout, count: int, limits: ImageLimits
) -> PictureSample:
    """Reads up to ``count`` pictures, and tries to decode them."""
    if count == 0:
        return PictureSample(reason="check=0 was passed")
    if layout.uri_field is None:
        return PictureSample(reason=f"no uri_field says where images can be read{_hint(images)}")
    sources = [(image, picture_source(image.payload, layout)) for image in images[:count]]
    named = [(image, source) for image, source in sources if source is not None]
    pictures, vectors, reasons = [], [], []
    for (image, source), data in zip(named, read_pictures([one for _, one in named], layout)):
        try:
            if isinstance(data, Exception):
                raise data
            if not image.vector.any():
                raise BadImage(f"{source!r}: its stored vector is zero")
            picture = EncodedPicture(data, source, limits)
            picture.decoded()
        except Exception as error:  # a decoder of Pillow may raise anything
            reasons.append(_reason(error, source))
        else:
            pictures.append(picture)
            vectors.append(image.vector / np.linalg.norm(image.vector))
    missing = len(sources) - len(named)
    if missing:
        reasons.append(f"no value in the field {layout.uri_field!r}")
    unread = missing + len(named) - len(pictures)
    found = np.stack(vectors) if vectors else np.zeros((0, 0), np.float32)
    return PictureSample(pictures, found, unread, next(iter(reasons), ""))


def _reason(error: Exception, source: str) -> str:
    shown = "a picture in the payload" if is_inline(source) else source
    reason = reason_of(error, source) if isinstance(error, BadImage) else first_line(error)
    return f"{shown}: {reason}"


def _fields(images: Sequence[StoredImage]) -> str:
    names = {name for image in images for name in image.payload}
    return ", ".join(sorted(names)) or "none"


def _hint(images: Sequence[StoredImage]) -> str:
    """Names a field that looks as if it did."""
    for image in images:
        for name, value in image.payload.items():
            if isinstance(value, str) and _looks_like_image(value):
                return f", and {name!r} seems to; pass uri_field={name!r} to have it checked"
    return "; pass uri_field=... to have it checked"


def _looks_like_image(value: str) -> bool:
    return is_inline(value) or value.partition("?")[0].lower().endswith(USUAL_SUFFIXES)
