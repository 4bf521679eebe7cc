"""The contact sheet: one self-contained HTML page with references, texts and results."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fti_qdrant.filters.grammar import FilterLike
from fti_qdrant.query import Hit, Hits
from fti_qdrant.report.row import PageImage, PageRow, shortened, thumbnails, write_page


def write_sheet(
    path: Path, heading: str, rows: Sequence[Hits], note: str = "", title: str | None = None
) -> None:
    """Writes the page, a row for each query.

    Args:
        title: payload field that names a result; by default ``name``, ``title``, or the file name.

    Raises OutputUnavailable where it cannot be written.
    """
    page_rows = [page_row(hits, title) for hits in rows]
    write_page(path, "sheet.html.j2", heading=heading, note=note, rows=page_rows)


def page_row(hits: Hits, title: str | None = None) -> PageRow:
    """A query with its results; reads all their pictures."""
    query, explanation, shown = hits.query, hits.explanation, hits.pictures
    sources = [*shown.sources, *(hit.uri or None for hit in hits)]
    pictures = thumbnails(sources, allow_urls=shown.allow_urls, limits=shown.limits)
    references, of_hits = pictures[: len(shown.sources)], pictures[len(shown.sources) :]
    return PageRow(
        references=references,
        text=query.words,
        composer=hits.composer,
        filter=_filter_text(query.filter),
        warnings=query.warnings,
        facts=explanation.facts() if explanation else (),
        words=[list(image) for image in hits.explanations],
        hits=[
            PageImage(
                picture=picture,
                title=shortened(_title(hit, title)),
                score=_score(hit),
            )
            for hit, picture in zip(hits, of_hits)
        ],
    )


def title_field(payload: Mapping[str, Any]) -> str | None:
    """The payload field that names a result, where the user names none."""
    return next((field for field in ("name", "title") if payload.get(field)), None)


def _title(hit: Hit, field: str | None) -> str:
    field = field or title_field(hit.payload)
    named = hit.payload.get(field) if field else None
    return str(named or (Path(hit.uri).name if hit.uri else hit.id))


def _score(hit: Hit) -> str:
    chance = "" if hit.confidence is None else f" ({hit.confidence:.0%})"
    return f"{hit.score:.3f}{chance}"


def _filter_text(filter: FilterLike | None) -> str:
    if filter is None:
        return ""
    if isinstance(filter, Mapping):
        return json.dumps(filter, ensure_ascii=False, default=str)
    return str(filter.model_dump_json(exclude_none=True))
