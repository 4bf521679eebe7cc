"""Pictures that cost as much to decode as photographs do."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image


def write_jpeg(
    path: Path | BinaryIO,
    size: tuple[int, int],
    rng: np.random.Generator,
    profile: bytes | None = None,
) -> None:
    """A JPEG of ``size`` (width, height) with the detail of a photograph.

    Args:
        profile: an ICC profile to embed.
    """
    coarse = Image.fromarray(rng.integers(0, 256, (30, 40, 3), dtype=np.uint8))
    smooth = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), dtype=np.int64)
    noisy = smooth + rng.integers(-20, 20, (size[1], size[0], 3))
    picture = Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))
    picture.save(path, "JPEG", quality=90, icc_profile=profile)
