"""What one image may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageLimits:
    """Limits of one image.

    Attributes:
        max_bytes: encoded size.
        max_pixels: width times height.
        timeout: seconds for a download.
    """

    max_bytes: int = 50_000_000
    max_pixels: int = 64_000_000
    timeout: float = 10.0


DEFAULT_LIMITS = ImageLimits()
