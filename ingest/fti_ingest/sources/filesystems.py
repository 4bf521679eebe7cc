"""Places outside this machine's folders: any filesystem that fsspec knows, by its URI."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, NoReturn

from fti_qdrant.errors import BadManifest
from fti_qdrant.images.read import is_url

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem
    from upath import UPath

CHAIN = "::"
"""fsspec's sign for one place inside another."""


def is_remote(place: str) -> bool:
    """Whether it names a filesystem of fsspec's (``s3://``, ``gs://``, ...), and is not a path."""
    return "://" in place


def location(place: str) -> UPath:
    """A path on this machine or elsewhere, with pathlib's methods.

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
    """The filesystem of a place, and the place's name there.

    Raises BadManifest where no filesystem knows the scheme, or its package is missing.
    """
    from fsspec.core import url_to_fs
    from fsspec.implementations.local import LocalFileSystem

    if not is_remote(place):  # a name of this machine may hold fsspec's signs
        return LocalFileSystem(), place
    try:
        fs, path = url_to_fs(place)
    except (ValueError, ImportError) as error:
        _unknown(place, error)
    fs.dircache.use_listings_cache = False  # a listing may be a million names
    return fs, path


@contextmanager
def readable(place: str) -> Iterator[None]:
    """A filesystem's many exceptions as one line. Raises BadManifest."""
    try:
        yield
    except BadManifest:
        raise
    except FileNotFoundError:
        raise BadManifest(f"{place!r}: no such file or folder") from None
    except Exception as error:  # botocore's, aiohttp's, gcsfs's and others
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise BadManifest(f"{place!r} cannot be read: {reason}") from error


def _unknown(place: str, error: Exception) -> NoReturn:
    hint = "" if is_url(place) else "; for S3 and GCS: pip install 'fti-qdrant[cloud]'"
    raise BadManifest(f"{place!r}: no filesystem for it ({error}){hint}") from None
