"""Packages that only some commands need, checked before any work is done."""

from __future__ import annotations

from importlib.util import find_spec

from fti_qdrant.errors import FtiError


def need(package: str, extra: str) -> None:
    """Raises FtiError, with what to install, where a package of an extra is missing."""
    if find_spec(package) is None:
        raise FtiError(
            f"this needs the package {package}: pip install 'fti-qdrant[{extra}]' (on a Ray "
            "cluster, on all of its machines)"
        )
