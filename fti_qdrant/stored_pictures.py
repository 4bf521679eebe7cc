"""The pictures of stored images: where they are by their payload, and their bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from fti_qdrant.gallery.layout import CollectionLayout, Payload
from fti_qdrant.images.filesystems import DRIVE, local_path
from fti_qdrant.images.inline import is_inline


def picture_source(payload: Payload, layout: CollectionLayout) -> str | None:
    """What ``read_pictures`` takes: a path, a URI, or the picture itself as a text.

    None where the payload has none.

    Example:
        >>> layout = CollectionLayout(uri_field="image_url", image_root="s3://shop")
        >>> picture_source({"image_url": "red/1.jpg"}, layout)
        's3://shop/red/1.jpg'
    """
    stored = layout.stored_uri(payload)
    if stored is None or is_inline(stored):
        return stored
    if stored[:5].lower() == "file:":
        return local_path(stored)
    root = layout.image_root
    if root is None or "://" in stored or stored.startswith("/") or DRIVE.match(stored):
        return stored
    return f"{root.rstrip('/')}/{stored}" if "://" in root else str(Path(root) / stored)


def image_place(payload: Payload, layout: CollectionLayout) -> str | None:
    """Path or URI of a stored image; None where there is none, or the payload holds the image."""
    source = picture_source(payload, layout)
    return None if source is None or is_inline(source) else source


def read_pictures(sources: Sequence[str], layout: CollectionLayout) -> list[bytes | Exception]:
    """The encoded bytes of stored images, in their order, or why they cannot be read.

    Remote ones are fetched concurrently. The user named the field that holds these places, so URLs
    are read; on hosts without a public address only below ``image_root``.
    """
    from fti_qdrant.images.fetch import read_batch

    return list(read_batch(sources, allow_urls=True, own=own_root(layout)))


def own_root(layout: CollectionLayout) -> str:
    """``image_root`` as ``read_batch`` takes it: URLs below it may be on a private host."""
    root = layout.image_root or ""
    return f"{root.rstrip('/')}/" if "://" in root else ""
