"""What one image may cost."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class ImageLimits:
    """Limits of one image.

    Attributes:
        max_bytes: encoded size.
        max_pixels: width times height as decoded. A JPEG may have more: it is decoded at a part of
            its size.
        timeout: seconds for a download.
    """

    max_bytes: int = 50_000_000
    max_pixels: int = 64_000_000
    timeout: float = 10.0

    def in_jpeg(self, progressive: bool) -> int:
        """The most pixels of a JPEG that is decoded at a part of its size.

        A progressive one is kept in memory whole while that is done.
        """
        return self.max_pixels * (PROGRESSIVE_TIMES if progressive else JPEG_TIMES)


JPEG_TIMES, PROGRESSIVE_TIMES = 16, 2

DEFAULT_LIMITS = ImageLimits()
