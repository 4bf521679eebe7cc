"""Files at a URI, on any filesystem that fsspec knows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from fti_qdrant.errors import BadManifest, first_line
from fti_qdrant.images.read import is_url

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

DRIVE = re.compile(r"[A-Za-z]:[\\/]")
"""Begins a Windows path."""

CHAIN = "::"
"""fsspec's separator in chained URIs: a file inside an archive."""


def is_remote(place: str) -> bool:
    """Whether it is a URI (``s3://``, ``gs://``, ...) and not a path."""
    return "://" in place


def local_path(place: str) -> str:
    """A ``file://`` URI as the path that it is; all else as it comes.

    Example:
        >>> local_path("file:///photos/a b"), local_path("s3://bucket/a")
        ('/photos/a b', 's3://bucket/a')
    """
    from fsspec.implementations.local import LocalFileSystem

    if not place.lower().startswith(tuple(f"{name}://" for name in LocalFileSystem.protocol)):
        return place
    return str(LocalFileSystem._strip_protocol(place))


def location(place: str) -> UPath:
    """A path or URI with pathlib's methods.

    Raises BadManifest where no filesystem knows the scheme, or its package is missing.
    """
    from upath import UPath

    try:
        path = UPath(place)
        path.fs  # noqa: B018 - imports the filesystem's package
    except (ValueError, ImportError) as error:
        _unknown(place, error)
    return path


def filesystem(place: str) -> tuple[AbstractFileSystem, str]:
    """The filesystem of a path or URI, and the path there.

    Raises BadManifest where no filesystem knows the scheme, or its package is missing.
    """
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if not is_remote(place):  # a local name may contain fsspec's separators
        return LocalFileSystem(), place
    try:
        fs, path = url_to_fs(place)
    except (ValueError, ImportError) as error:
        _unknown(place, error)
    fs.dircache.use_listings_cache = False  # a listing may hold a million names
    return fs, path


@contextmanager
def readable(place: str) -> Iterator[None]:
    """Turns a filesystem's own exceptions into BadManifest, one line each."""
    try:
        yield
    except BadManifest:
        raise
    except FileNotFoundError:
        raise BadManifest(f"{place!r}: no such file or folder") from None
    except Exception as error:  # botocore's, aiohttp's, gcsfs's and others
        raise BadManifest(f"{place!r} cannot be read: {first_line(error)}") from error


def _unknown(place: str, error: Exception) -> NoReturn:
    hint = "" if is_url(place) else "; for S3 and GCS: pip install 'fti-qdrant[cloud]'"
    raise BadManifest(f"{place!r}: no filesystem for it ({error}){hint}") from None
