"""Reads the encoded bytes of images by path or URI, remote ones of a batch concurrently."""

from __future__ import annotations

import re
import zipfile
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from urllib.parse import urlsplit

from fti_qdrant.errors import BadImage, BadManifest, first_line
from fti_qdrant.images import DEFAULT_LIMITS
from fti_qdrant.images.filesystems import CHAIN, filesystem, is_remote
from fti_qdrant.images.inline import inline_bytes, is_inline
from fti_qdrant.images.read import check_finite, is_url, read_bytes

SPAN = re.compile(r"#bytes=(\d+)-(\d+)$")
OFFSET = re.compile(r"#at=(\d+)$")
"""Where a file of a zip begins, for names that occur twice."""

DOWNLOADS = 16
"""URLs that one decoder fetches at a time: it mostly waits for them."""

PARQUET = "parquet://"
HEAD_BYTES = 256
"""More than the signature of any kind of image needs."""

OPEN_ARCHIVES = 8
MOST = DEFAULT_LIMITS.max_bytes + 1
"""Bytes that are read of an image at most; the decoder refuses one of this size."""

Read = bytes | BadImage
"""An image's bytes, or why they cannot be read."""


def without_span(uri: str) -> str:
    """A listed URI as it is stored: without where in its archive the image lies."""
    return OFFSET.sub("", SPAN.sub("", uri)) if CHAIN in uri else uri


def read_batch(uris: Sequence[str], allow_urls: bool, own: str = "") -> list[Read]:
    """The bytes of listed images, in their order. A bad one does not raise.

    Args:
        allow_urls: whether images may be fetched from any web server that a manifest names.
        own: URLs that begin with this are the source itself, and always allowed.
    """
    kinds: dict[str, list[int]] = defaultdict(list)
    for row, uri in enumerate(uris):
        kinds[_kind(uri)].append(row)
    found: dict[int, Read] = {}
    for row in kinds["file"]:
        found[row] = _caught(_read_file, uris[row])
    for row in kinds["zip"]:
        found[row] = _caught(_read_zip, uris[row])
    for row in kinds["inline"]:
        found[row] = _caught(inline_bytes, uris[row])
    for row in kinds["parquet"]:
        found[row] = _caught(_read_parquet, uris[row])
    remote = kinds["remote"]
    found.update(zip(remote, _read_spans([uris[row] for row in remote])))
    urls = kinds["url"]
    found.update(zip(urls, _read_urls([uris[row] for row in urls], allow_urls, own)))
    return [found[row] for row in range(len(uris))]


def read_heads(uris: Sequence[str]) -> list[Read]:
    """The first bytes of files, in their order, without reading more. A bad one does not raise."""
    remote = [uri for uri in uris if is_remote(uri) and not is_url(uri)]
    found = dict(zip(remote, _read_spans(remote, HEAD_BYTES)))
    return [found[uri] if uri in found else _caught(_read_head, uri) for uri in uris]


def reason_of(error: Exception, uri: str) -> str:
    """What is wrong with an image, for a message that names it elsewhere.

    Example:
        >>> reason_of(BadImage("'a.jpg': no such file"), "a.jpg")
        'no such file'
        >>> reason_of(BadImage("'a.jpg' is a web page"), "a.jpg")
        'it is a web page'
    """
    reason, name = str(error), repr(uri)
    if reason.startswith(f"{name} "):
        return "it" + reason.removeprefix(name)
    return reason.removeprefix(f"{name}: ")


def _kind(uri: str) -> str:
    if is_inline(uri):
        return "inline"
    if is_url(uri):
        return "url"
    if not is_remote(uri):
        return "file"
    if uri.startswith("zip://"):
        return "zip"
    return "parquet" if uri.startswith(PARQUET) else "remote"


def _caught(function: Callable[[str], bytes], uri: str) -> Read:
    try:
        return function(uri)
    except BadImage as error:
        return error
    except Exception as error:  # one image must never stop the others
        return _unreadable(uri, error)


def _read_file(uri: str) -> bytes:
    _check_no_folder(uri)
    return read_bytes(uri, allow_urls=False, limits=DEFAULT_LIMITS)[0]


def _read_head(uri: str) -> bytes:
    if is_url(uri):
        raise BadImage(f"{uri!r}: a web server's files are taken by their names alone")
    _check_no_folder(uri)
    check_finite(Path(uri))
    with Path(uri).open("rb") as file:
        return file.read(HEAD_BYTES)


def _check_no_folder(uri: str) -> None:
    if Path(uri).is_dir():
        raise BadImage(f"{uri!r}: a directory, not an image file")


def _read_urls(uris: Sequence[str], allow_urls: bool, own: str) -> list[Read]:
    if not uris:
        return []
    from fti_qdrant.images.url import fetch

    named = urlsplit(own).netloc

    def fetched(uri: str) -> bytes:
        if own and uri.startswith(own):
            return fetch(uri, DEFAULT_LIMITS, named)
        if not allow_urls:
            raise BadImage(f"{uri!r}: a URL; fetch it with --allow-urls, or download it first")
        return fetch(uri, DEFAULT_LIMITS)

    with ThreadPoolExecutor(DOWNLOADS) as pool:
        return list(pool.map(lambda uri: _caught(fetched, uri), uris))


def _read_zip(uri: str) -> bytes:
    member, _, archive = without_span(uri).removeprefix("zip://").rpartition(CHAIN)
    opened = _open_zip(archive, _version(archive))
    offset = OFFSET.search(uri)
    name: str | zipfile.ZipInfo = member
    if offset is not None:
        at = int(offset[1])
        name = next((one for one in opened.infolist() if one.header_offset == at), member)
    try:
        with opened.open(name) as file:
            return file.read(MOST)
    except KeyError:
        raise BadImage(f"{uri!r}: no such file in the archive") from None


@lru_cache(maxsize=OPEN_ARCHIVES)
def _open_zip(place: str, version: tuple[int, ...]) -> zipfile.ZipFile:
    """Kept open for the next images."""
    fs, path = filesystem(place)
    return zipfile.ZipFile(fs.open(path, "rb"))


def _read_parquet(uri: str) -> bytes:
    from fti_qdrant.images.parquet_images import read_embedded

    return read_embedded(uri, _version(uri.partition(CHAIN)[2]), MOST)


def _version(place: str) -> tuple[int, ...]:
    """Changes when a local file is written anew, so that no old one is read for it."""
    if is_remote(place):
        return ()
    found = Path(place).stat()
    return found.st_ino, found.st_size, found.st_mtime_ns


def _read_spans(uris: Sequence[str], most: int = MOST) -> list[Read]:
    """Whole objects and members of tars; one concurrent call for each filesystem.

    Args:
        most: bytes of each.
    """
    spans: dict[int, tuple[str, int, int]] = {}
    groups: dict[int, list[int]] = defaultdict(list)
    systems = {}
    found: dict[int, Read] = {}
    for row, uri in enumerate(uris):
        try:
            place, begin, end = _span(uri)
            fs, path = filesystem(place)
        except (BadManifest, BadImage) as error:
            found[row] = BadImage(str(error))
            continue
        except Exception as error:  # a filesystem's own
            found[row] = _unreadable(uri, error)
            continue
        systems[id(fs)] = fs
        spans[row] = (path, begin, min(end, begin + most))
        groups[id(fs)].append(row)
    for key, rows in groups.items():
        paths, begins, ends = zip(*(spans[row] for row in rows))
        answers = systems[key].cat_ranges(list(paths), list(begins), list(ends), on_error="return")
        for row, answer in zip(rows, answers):
            bad = isinstance(answer, BaseException)
            found[row] = _unreadable(uris[row], answer) if bad else bytes(answer)
    return [found[row] for row in range(len(uris))]


def _span(uri: str) -> tuple[str, int, int]:
    """Path or URI of a file, and the byte range in it.

    A member of a tar whose range is not known, as its URI was stored, is looked up by its name.
    """
    where = SPAN.search(uri) if uri.startswith("tar://") else None
    if where is None:
        return uri, 0, MOST
    begin, end = map(int, where.groups())
    return without_span(uri).rpartition(CHAIN)[2], begin, end


def _unreadable(uri: str, error: BaseException) -> BadImage:
    if isinstance(error, FileNotFoundError):
        return BadImage(f"{without_span(uri)!r}: no such file")
    reason = first_line(error)
    return BadImage(f"{without_span(uri)!r}: cannot be read ({type(error).__name__}: {reason})")
