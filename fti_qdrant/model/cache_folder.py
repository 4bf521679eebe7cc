"""The folder for what can be computed again: hashes of weights, compiled models."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "FTI_CACHE"
"""Environment variable that names another folder for the cache."""


def cache_folder() -> Path:
    """Raises RuntimeError where there is no home folder."""
    named = os.environ.get(CACHE_VARIABLE)
    if named:
        return Path(named)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "fti-qdrant"
