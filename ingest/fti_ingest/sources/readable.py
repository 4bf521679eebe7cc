"""Whether an image can be read, as the decoding stage would read it."""

from __future__ import annotations

from fti_ingest.sources.fetch import read_batch
from fti_qdrant.errors import BadImage


def can_be_read(uri: str, allow_urls: bool, own: str) -> bool:
    """Whether the image at a listed URI can be fetched and decoded; see ``fetch.read_batch``."""
    from fti_qdrant.images import decode_pixels

    [data] = read_batch([uri], allow_urls, own)
    if isinstance(data, BadImage):
        return False
    try:
        decode_pixels(data)
    except Exception:  # the stage that decodes all images tells why
        return False
    return True
