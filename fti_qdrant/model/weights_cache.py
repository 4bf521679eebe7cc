"""Weights hashes on disk: a second load of a large model does not hash it again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti_qdrant.atomic_files import write_text
from fti_qdrant.model.cache_folder import cache_folder
from fti_qdrant.model.fingerprint import weights_hash

if TYPE_CHECKING:
    from torch import Tensor

CACHE_FILE = "weights.json"

SAMPLE = 128
"""Values at each end of each tensor that must be the same for a cached hash to be used."""


def cached_weights_hash(weights: Mapping[str, Tensor], files: Sequence[Path]) -> str:
    """``weights_hash`` of a model, from the cache where its weights files have not changed.

    An entry holds for one path, size and modification time, and for a sample of the loaded values.
    A cache that is damaged or cannot be written is ignored.

    Args:
        weights: as loaded, in float32.
        files: where they came from, several for a checkpoint in shards; without them nothing is
            cached.
    """
    identity = _identity(files)
    if identity is None:
        return weights_hash(weights.items())
    key = str(files[0].resolve())
    identity = {**identity, "sample": _sample(weights)}
    entry = _read().get(key)
    if isinstance(entry, dict) and {**entry, **identity} == entry:
        found = entry.get("hash")
        if isinstance(found, str):
            return found
    computed = weights_hash(weights.items())
    # read again: another process may have added a model while this one was hashed
    entries = {**_read(), key: {**identity, "hash": computed}}
    with suppress(OSError, RuntimeError):
        write_text(_cache_file(), json.dumps(entries, indent=2) + "\n")
    return computed


def _identity(files: Sequence[Path]) -> dict[str, Any] | None:
    """Sums over the files: a change of one changes the sum. None where there is no file."""
    try:
        found = [file.stat() for file in files]
    except OSError:
        return None
    if not found:
        return None
    return {
        "size": sum(one.st_size for one in found),
        "mtime_ns": sum(one.st_mtime_ns for one in found),
    }


def _sample(weights: Mapping[str, Tensor]) -> str:
    """Guards against a file that is not the one that was loaded."""
    digest = hashlib.sha256()
    for name, tensor in sorted(weights.items()):
        values = tensor.detach().flatten()
        digest.update(f"{name}{tuple(tensor.shape)}".encode())
        for end in (values[:SAMPLE], values[-SAMPLE:]):
            digest.update(end.cpu().float().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def _cache_file() -> Path:
    """Raises RuntimeError where there is no home folder."""
    return cache_folder() / CACHE_FILE


def _read() -> dict[str, Any]:
    """The cache's entries; none where it cannot be read."""
    try:
        entries = json.loads(_cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError, RuntimeError, RecursionError):
        return {}
    return entries if isinstance(entries, dict) else {}
