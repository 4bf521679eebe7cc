"""Image sources and preprocessing: from a file to the pixels that a backbone takes.

The names below are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fti_qdrant.lazy_names import names_of

if TYPE_CHECKING:
    from fti_qdrant.images.color import to_rgb
    from fti_qdrant.images.crop import Cropped
    from fti_qdrant.images.decoding import DecodedImage, decode, decode_pixels
    from fti_qdrant.images.limits import DEFAULT_LIMITS, ImageLimits
    from fti_qdrant.images.preprocess import Preprocess, target_pad
    from fti_qdrant.images.read import (
        ImageSource,
        LoadedImage,
        content_hash,
        decode_image,
        open_image,
    )

_HOMES = {
    "Cropped": "crop",
    "DEFAULT_LIMITS": "limits",
    "ImageLimits": "limits",
    "Preprocess": "preprocess",
    "target_pad": "preprocess",
    "DecodedImage": "decoding",
    "ImageSource": "read",
    "LoadedImage": "read",
    "content_hash": "read",
    "decode": "decoding",
    "decode_image": "read",
    "decode_pixels": "decoding",
    "open_image": "read",
    "to_rgb": "color",
}

__all__ = [
    "DEFAULT_LIMITS",
    "Cropped",
    "DecodedImage",
    "ImageLimits",
    "ImageSource",
    "LoadedImage",
    "Preprocess",
    "content_hash",
    "decode",
    "decode_image",
    "decode_pixels",
    "open_image",
    "target_pad",
    "to_rgb",
]

__getattr__, __dir__ = names_of(__name__, _HOMES)
