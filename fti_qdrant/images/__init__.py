"""Image sources and preprocessing: the one path from a file to the pixels a backbone sees."""

from fti_qdrant.images.preprocess import Preprocess, target_pad
from fti_qdrant.images.read import (
    DEFAULT_LIMITS,
    ImageLimits,
    ImageSource,
    LoadedImage,
    decode_image,
    open_image,
    to_rgb,
)

__all__ = [
    "DEFAULT_LIMITS",
    "ImageLimits",
    "ImageSource",
    "LoadedImage",
    "Preprocess",
    "decode_image",
    "open_image",
    "target_pad",
    "to_rgb",
]
