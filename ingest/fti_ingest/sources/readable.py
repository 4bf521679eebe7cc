"""Whether an image can be read, as the decoding stage would read it."""

from __future__ import annotations

from fti_qdrant.errors import BadImage, first_line
from fti_qdrant.images import ImageLimits
from fti_qdrant.images.fetch import read_batch, reason_of, without_span


def image_problem(uri: str, allow_urls: bool, own: str, limits: ImageLimits) -> str:
    """Why the image at a listed URI cannot be fetched or decoded; empty where it can.

    The arguments are those of ``fetch.read_batch`` and ``images.decode``.
    """
    from fti_qdrant.images import decode

    [data] = read_batch([uri], allow_urls, own)
    name = without_span(uri)
    try:
        if isinstance(data, BadImage):
            raise data
        decode(data, uri=name, limits=limits)
    except BadImage as error:
        return reason_of(error, name)
    except Exception as error:  # as the decoding stage
        return f"{type(error).__name__}: {first_line(error)}"
    return ""
