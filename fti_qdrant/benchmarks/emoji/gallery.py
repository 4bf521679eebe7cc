"""The emoji gallery as anybody's gallery would be: a folder of pictures and a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from fti_qdrant.benchmarks.emoji.artwork import draw, drawings, file_name
from fti_qdrant.benchmarks.emoji.facts import Emoji, all_emoji

MANIFEST = "manifest.jsonl"


def write_gallery(
    folder: Path, artwork: str = "twemoji", advance: Callable[[int, int], None] | None = None
) -> Path:
    """Draws every emoji of an artwork into ``folder``; returns the manifest for fti-ingest.

    Pictures that are there already are kept.

    Args:
        advance: told how many pictures are done, and of how many.

    Raises FtiError where the artwork is not installed.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = drawings(artwork)
    shown = [emoji for emoji in all_emoji() if emoji.key in files]

    def write(emoji: Emoji) -> None:
        path = folder / file_name(emoji.key)
        if not path.exists():
            fresh = path.with_suffix(".part")
            fresh.write_bytes(draw(files[emoji.key]))
            fresh.replace(path)

    with ThreadPoolExecutor() as pool:
        for done, _ in enumerate(pool.map(write, shown), 1):
            if advance:
                advance(done, len(shown))
    lines = [json.dumps({"image": file_name(one.key), **payload(one)}) for one in shown]
    manifest = folder / MANIFEST
    manifest.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return manifest


def payload(emoji: Emoji) -> dict[str, Any]:
    """What a search can filter by: name, subject, group, and the facets that are stated."""
    return {
        "name": emoji.name,
        "subject": emoji.subject,
        "group": emoji.group,
        "held_out": emoji.held_out,
        **emoji.facets,
    }
