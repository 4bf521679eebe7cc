"""The contact sheet: one self-contained page with references, texts and hits."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from fti_qdrant.errors import BadImage, FtiError
from fti_qdrant.explain import Explanation
from fti_qdrant.filters import FilterLike
from fti_qdrant.hits import Hits
from fti_qdrant.images import open_image

THUMBNAIL = 128
"""Longest side of a picture on the sheet, in pixels."""


@dataclass(frozen=True)
class Answered:
    """A query with its hits, as one row of the sheet.

    Attributes:
        pictures: what to show for each reference image: paths of pictures.
        title: payload field that names a hit; without one, the file's name.
    """

    hits: Hits
    pictures: Sequence[str | None] = ()
    explanation: Explanation | None = None
    title: str | None = None


def write_sheet(path: Path, heading: str, rows: Sequence[Answered], note: str = "") -> None:
    """Writes the page. Raises FtiError where it cannot be written."""
    environment = Environment(
        loader=PackageLoader("fti_qdrant", "report"), autoescape=True, undefined=StrictUndefined
    )
    page = environment.get_template("sheet.html.j2").render(
        heading=heading, note=note, rows=[_row(row) for row in rows]
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(page, encoding="utf-8")
    except OSError as error:
        raise FtiError(f"the sheet {str(path)!r} cannot be written: {error}") from error


def _row(answered: Answered) -> dict[str, Any]:
    query = answered.hits.query
    return {
        "references": [thumbnail(picture) for picture in answered.pictures],
        "text": query.words,
        "composer": query.composer,
        "filter": _filter_text(query.filter),
        "warnings": query.warnings,
        "explanation": list(answered.explanation or ()),
        "hits": [
            {
                "picture": thumbnail(hit.uri),
                "score": f"{hit.score:.3f}",
                "title": _title(hit.payload, answered.title, hit.uri, hit.id),
            }
            for hit in answered.hits
        ],
    }


def thumbnail(source: str | None) -> str | None:
    """A picture as a data URI, or None where it cannot be read any more."""
    if source is None:
        return None
    try:
        picture = open_image(source).image.copy()
    except BadImage:
        return None
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _title(payload: Mapping[str, Any], field: str | None, uri: str | None, id: str) -> str:
    named = payload.get(field) if field else payload.get("name") or payload.get("title")
    return str(named or (Path(uri).name if uri else id))


def _filter_text(filter: FilterLike | None) -> str:
    if filter is None:
        return ""
    if isinstance(filter, Mapping):
        return json.dumps(filter, ensure_ascii=False, default=str)
    return str(filter.model_dump_json(exclude_none=True))
