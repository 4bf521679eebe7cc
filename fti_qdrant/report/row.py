"""One query on a page: its reference, its text, its hits, and the pictures of all of them."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fti_qdrant.errors import BadImage, FtiError
from fti_qdrant.images import open_image
from fti_qdrant.model.explain import NearestWords

THUMBNAIL = 128
"""Longest side of a picture on a page, in pixels."""

WEBP_QUALITY = 80


@dataclass(frozen=True)
class Shown:
    """One picture with its caption.

    Attributes:
        picture: as a data URI, or None where it cannot be read any more.
        right: whether it is a right answer of the query.
    """

    picture: str | None
    title: str
    score: str = ""
    right: bool = False


@dataclass(frozen=True)
class Row:
    """What ``row.html.j2`` shows.

    Attributes:
        references: pictures of the reference images, as data URIs.
        answers: right answers that are not among the hits.
        labels: what the page's buttons filter by.
    """

    references: Sequence[str | None]
    text: str
    composer: str
    hits: Sequence[Shown]
    filter: str = ""
    warnings: Sequence[str] = ()
    explanation: Sequence[NearestWords] = ()
    answers: Sequence[Shown] = ()
    labels: Sequence[str] = field(default_factory=tuple)


def thumbnail(source: str | Path | None) -> str | None:
    """A picture as a data URI, or None where it cannot be read any more."""
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
    """Renders a template into a page of its own. Raises FtiError where it cannot be written."""
    environment = Environment(
        loader=PackageLoader("fti_qdrant", "report"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template(template).render(**values)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise FtiError(f"the page {str(path)!r} cannot be written: {error}") from error
