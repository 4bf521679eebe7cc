"""One query on a page: its references, its text, its results, and thumbnails of all of them."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fti_qdrant.atomic_files import write_text
from fti_qdrant.errors import BadImage, OutputUnavailable
from fti_qdrant.images import DEFAULT_LIMITS, ImageLimits, ImageSource, open_image

if TYPE_CHECKING:  # its module loads torch
    from fti_qdrant.model.explain import NearestWords

THUMBNAIL = 128
"""Longer side of a thumbnail, in pixels."""

WEBP_QUALITY = 80

READERS = 4
"""Pictures that are read at the same time: a server that does not answer must not add up."""

LONGEST = 160
"""Characters of a reason or a value; more is cut in the middle."""


@dataclass(frozen=True)
class Thumbnail:
    """A small picture.

    Attributes:
        data: a data URI, or None where the image cannot be read.
        reason: why it cannot.
    """

    data: str | None
    reason: str = ""


@dataclass(frozen=True)
class PageImage:
    """One image with its caption.

    Attributes:
        right: whether it is a right answer of the query.
        fields: of its payload, as they are shown.
    """

    picture: Thumbnail
    title: str
    score: str = ""
    right: bool = False
    fields: Sequence[tuple[str, str]] = ()


@dataclass(frozen=True)
class PageRow:
    """What ``row.html.j2`` shows.

    Attributes:
        facts: of the query's explanation: the prompt, cosines.
        words: nearest to the pseudo-words of each reference image.
        answers: right answers that are not among the results.
        labels: what the buttons of the page filter by.
    """

    references: Sequence[Thumbnail]
    text: str
    composer: str
    hits: Sequence[PageImage]
    filter: str = ""
    warnings: Sequence[str] = ()
    facts: Sequence[tuple[str, str]] = ()
    words: Sequence[Sequence[NearestWords]] = ()
    answers: Sequence[PageImage] = ()
    labels: Sequence[str] = ()


def thumbnails(
    sources: Sequence[ImageSource | None],
    *,
    allow_urls: bool = False,
    limits: ImageLimits = DEFAULT_LIMITS,
) -> list[Thumbnail]:
    """As ``thumbnail``, of several images."""
    read = partial(thumbnail, allow_urls=allow_urls, limits=limits)
    with ThreadPoolExecutor(READERS) as pool:
        return list(pool.map(read, sources))


def thumbnail(
    source: ImageSource | None, *, allow_urls: bool = False, limits: ImageLimits = DEFAULT_LIMITS
) -> Thumbnail:
    """A small image as a data URI, or the reason why it cannot be read.

    Args:
        source: None where it is not known.
    """
    if source is None:
        return Thumbnail(None, "it is not known where the image is")
    try:
        picture = open_image(source, allow_urls=allow_urls, limits=limits).image.copy()
    except BadImage as error:
        return Thumbnail(None, _reason(error, source))
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=WEBP_QUALITY)
    return Thumbnail("data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode())


def _reason(error: BadImage, source: ImageSource) -> str:
    """Without the name of the image, which may be long and is shown beside it."""
    reason = str(error)
    if isinstance(source, (str, os.PathLike)):
        for name in (os.fspath(source), str(Path(source))):
            reason = reason.removeprefix(repr(name))
    return shortened(reason.lstrip(": "))


def shortened(text: str) -> str:
    """The text, or its beginning and end.

    Example:
        >>> shortened("red"), len(shortened("red" * 1000))
        ('red', 160)
    """
    if len(text) <= LONGEST:
        return text
    half = (LONGEST - 1) // 2
    return f"{text[: LONGEST - 1 - half]}…{text[-half:]}"


def render(template: str, **values: Any) -> str:
    """The HTML of a template of this folder; all values are escaped."""
    environment = Environment(
        loader=PackageLoader("fti_qdrant", "report"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template(template).render(**values)
    # a file name that is not UTF-8 holds surrogates
    return page.encode("utf-8", "replace").decode("utf-8")


def write_page(path: Path, template: str, **values: Any) -> None:
    """Renders a template into a file. Raises OutputUnavailable where it cannot be written."""
    page = render(template, **values)
    try:
        write_text(path, page)
    except OSError as error:
        raise OutputUnavailable(f"the page {str(path)!r} cannot be written: {error}") from error
