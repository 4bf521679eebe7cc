"""One query on a page: its references, its text, its results, and thumbnails of all of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fti_qdrant.atomic_files import write_text
from fti_qdrant.errors import BadImage, OutputUnavailable
from fti_qdrant.images import open_image
from fti_qdrant.model.explain import NearestWords

THUMBNAIL = 128
"""Longer side of a thumbnail, in pixels."""

WEBP_QUALITY = 80


@dataclass(frozen=True)
class PageImage:
    """One image with its caption.

    Attributes:
        picture: a data URI, or None where the image can no longer be read.
        right: whether it is a right answer of the query.
    """

    picture: str | None
    title: str
    score: str = ""
    right: bool = False


@dataclass(frozen=True)
class PageRow:
    """What ``row.html.j2`` shows.

    Attributes:
        references: the reference images as data URIs.
        answers: right answers that are not among the results.
        labels: what the buttons of the page filter by.
    """

    references: Sequence[str | None]
    text: str
    composer: str
    hits: Sequence[PageImage]
    filter: str = ""
    warnings: Sequence[str] = ()
    explanation: Sequence[NearestWords] = ()
    answers: Sequence[PageImage] = ()
    labels: Sequence[str] = field(default_factory=tuple)


def thumbnail(source: str | Path | None) -> str | None:
    """A small image as a data URI, or None where the image can no longer be read."""
    if source is None:
        return None
    try:
        picture = open_image(source).image.copy()
    except BadImage:
        return None
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=WEBP_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode()


def write_page(path: Path, template: str, **values: Any) -> None:
    """Renders a template into a file. Raises OutputUnavailable where it cannot be written."""
    environment = Environment(
        loader=PackageLoader("fti_qdrant", "report"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template(template).render(**values)
    try:
        # a file name that is not UTF-8 holds surrogates
        write_text(path, page.encode("utf-8", "replace").decode("utf-8"))
    except OSError as error:
        raise OutputUnavailable(f"the page {str(path)!r} cannot be written: {error}") from error
