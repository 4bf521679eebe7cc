"""The version of the installed package."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("fti-qdrant")
except PackageNotFoundError:  # a source tree that is not installed
    __version__ = "unknown"
