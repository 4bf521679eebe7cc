"""Folders of other vector stores: what they are, and how to search what is in them."""

from __future__ import annotations

import json
from pathlib import Path

LOCAL_MODE_FILE = "meta.json"
"""In a folder of qdrant-client's local mode: ``{"collections": {name: ...}, ...}``."""

OTHER_STORES = (
    ("chroma.sqlite3", "Chroma"),
    ("*.lance", "LanceDB"),
    ("*.faiss", "FAISS"),
    ("milvus*.db", "Milvus Lite"),
)
"""Files that tell whose folder it is."""


def what_it_is(folder: Path) -> str | None:
    """What a folder that is no gallery holds, and what to do with it; None for all others."""
    collections = _local_mode_collections(folder)
    if collections is not None:
        names = ", ".join(map(repr, collections)) or "no collections"
        name = collections[0] if collections else "NAME"
        return (
            f"it is a folder of qdrant-client's local mode, with {names}; search it by "
            f"ComposedSearch.attach(QdrantClient(path={str(folder)!r}), {name!r}, model=...)"
        )
    if (folder / "collections").is_dir() and (folder / "raft_state.json").is_file():
        return (
            "it is the storage of a Qdrant server; start the server on it, and search by "
            "ComposedSearch.attach(URL, NAME, model=...)"
        )
    if (folder / "edge_config.json").is_file() and (folder / "segments").is_dir():
        return (
            "it is a shard of Qdrant's own, without the description that a gallery has; ingest its "
            "images into a new gallery with fti-ingest"
        )
    for pattern, tool in OTHER_STORES:
        if next(folder.glob(pattern), None) is not None:
            return (
                f"it is a folder of {tool}, which cannot be searched; ingest its images into a new "
                "gallery with fti-ingest"
            )
    return None


def _local_mode_collections(folder: Path) -> list[str] | None:
    """The names of the collections; None where it is no such folder."""
    try:
        values = json.loads((folder / LOCAL_MODE_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    found = values.get("collections") if isinstance(values, dict) else None
    return sorted(found) if isinstance(found, dict) else None
