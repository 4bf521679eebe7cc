"""The contact sheet: one self-contained HTML page with references, texts and results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fti_qdrant.explanation import Explanation
from fti_qdrant.filters import FilterLike
from fti_qdrant.query import Hits
from fti_qdrant.report.row import PageImage, PageRow, thumbnail, write_page


@dataclass(frozen=True)
class AnsweredQuery:
    """A query with its results: one row of the sheet.

    Attributes:
        pictures: paths of the reference images.
        title: payload field that names a result; by default ``name``, ``title``, or the file name.
    """

    hits: Hits
    pictures: Sequence[str | None] = ()
    explanation: Explanation | None = None
    title: str | None = None


def write_sheet(path: Path, heading: str, rows: Sequence[AnsweredQuery], note: str = "") -> None:
    """Writes the page. Raises OutputUnavailable where it cannot be written."""
    page_rows = [_page_row(row) for row in rows]
    write_page(path, "sheet.html.j2", heading=heading, note=note, rows=page_rows)


def _page_row(answered: AnsweredQuery) -> PageRow:
    query = answered.hits.query
    return PageRow(
        references=[thumbnail(picture) for picture in answered.pictures],
        text=query.words,
        composer=answered.hits.composer,
        filter=_filter_text(query.filter),
        warnings=query.warnings,
        explanation=list(answered.explanation or ()),
        hits=[
            PageImage(
                picture=thumbnail(hit.uri),
                title=_title(hit.payload, answered.title, hit.uri, hit.id),
                score=f"{hit.score:.3f}",
            )
            for hit in answered.hits
        ],
    )


def _title(payload: Mapping[str, Any], field: str | None, uri: str | None, id: str) -> str:
    named = payload.get(field) if field else payload.get("name") or payload.get("title")
    return str(named or (Path(uri).name if uri else id))


def _filter_text(filter: FilterLike | None) -> str:
    if filter is None:
        return ""
    if isinstance(filter, Mapping):
        return json.dumps(filter, ensure_ascii=False, default=str)
    return str(filter.model_dump_json(exclude_none=True))
