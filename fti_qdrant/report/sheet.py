"""The contact sheet: one self-contained page with references, texts and hits."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fti_qdrant.filters import FilterLike
from fti_qdrant.model.explain import Explanation
from fti_qdrant.query import Hits
from fti_qdrant.report.row import Row, Shown, thumbnail, write_page


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
    shown = [_row(row) for row in rows]
    write_page(path, "sheet.html.j2", heading=heading, note=note, rows=shown)


def _row(answered: Answered) -> Row:
    query = answered.hits.query
    return Row(
        references=[thumbnail(picture) for picture in answered.pictures],
        text=query.words,
        composer=answered.hits.composer,
        filter=_filter_text(query.filter),
        warnings=query.warnings,
        explanation=list(answered.explanation or ()),
        hits=[
            Shown(
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
