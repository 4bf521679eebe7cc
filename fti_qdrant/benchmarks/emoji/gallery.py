"""The emoji gallery as any user's gallery: a folder of images and a manifest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fti_qdrant.atomic_files import replacing, write_text
from fti_qdrant.benchmarks.emoji.artwork import draw, drawings, file_name
from fti_qdrant.benchmarks.emoji.facts import Emoji, all_emoji
from fti_qdrant.errors import OutputUnavailable
from fti_qdrant.parallel_map import parallel_map

MANIFEST = "manifest.jsonl"


def write_gallery(
    folder: Path,
    artwork: str = "twemoji",
    advance: Callable[[int, int], None] | None = None,
    wanted: Callable[[Emoji], bool] = lambda emoji: True,
) -> Path:
    """Draws the emoji of an artwork into ``folder``; returns the manifest for fti-ingest.

    Existing images are kept.

    Args:
        advance: called with the number of images done, and the total.
        wanted: which emoji, by default all.

    Raises FtiError where the artwork is not installed, OutputUnavailable where the folder cannot
    be written.
    """
    files = drawings(artwork)
    shown = [emoji for emoji in all_emoji() if emoji.key in files and wanted(emoji)]
    lines = [json.dumps({"image": file_name(one.key), **payload(one)}) for one in shown]
    manifest = folder / MANIFEST
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for done, _ in enumerate(_drawn(shown, files, folder), 1):
            if advance:
                advance(done, len(shown))
        write_text(manifest, "\n".join(lines) + "\n")
    except OSError as error:
        raise OutputUnavailable(f"{str(folder)!r} cannot be written: {error}") from error
    return manifest


def _drawn(shown: Sequence[Emoji], files: Mapping[str, Path], folder: Path) -> Iterator[None]:
    """Draws several at a time; yields after each image."""

    def write(emoji: Emoji) -> None:
        path = folder / file_name(emoji.key)
        if not path.exists():
            with replacing(path) as part:
                part.write_bytes(draw(files[emoji.key]))

    return parallel_map(write, shown)


def payload(emoji: Emoji) -> dict[str, Any]:
    """What a search can filter by: name, subject, group, and the facets that are stated."""
    return {
        "name": emoji.name,
        "subject": emoji.subject,
        "group": emoji.group,
        "held_out": emoji.held_out,
        **emoji.facets,
    }
