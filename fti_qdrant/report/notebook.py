"""Results and explanations as notebooks show them: a part of a page, of bounded size."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fti_qdrant.query import Hits, ReferencePictures
from fti_qdrant.report.row import PageRow, render, shortened, thumbnails
from fti_qdrant.report.sheet import page_row, title_field

if TYPE_CHECKING:  # its module loads torch
    from fti_qdrant.explanation import Explanation

MAX_HITS = 30
MAX_REFERENCES = 8
MAX_FIELDS = 8
"""A notebook keeps what it has shown: so many results, reference images, and fields of a payload
are in one output."""


def hits_html(hits: Hits) -> str:
    """The first results with scores and payloads, beside the query."""
    shown = Hits(hits[:MAX_HITS], hits.query, hits.explanation, _first(hits.pictures))
    row = page_row(shown)
    images = [
        replace(image, fields=list(_fields(hit.payload))) for hit, image in zip(shown, row.hits)
    ]
    left_out = _left_out(
        {
            "reference images": len(hits.pictures.sources) - len(shown.pictures.sources),
            "results": len(hits) - len(shown),
        }
    )
    return render("hits.html.j2", row=replace(row, hits=images), left_out=left_out)


def explanation_html(explanation: Explanation) -> str:
    """The reference images, the prompt, the cosines, and the nearest words."""
    pictures = _first(explanation.pictures)
    row = PageRow(
        references=thumbnails(
            pictures.sources, allow_urls=pictures.allow_urls, limits=pictures.limits
        ),
        text="",
        composer=explanation.composer,
        hits=(),
        facts=explanation.facts(),
        words=[list(image) for image in explanation.references],
    )
    count = len(explanation.pictures.sources) - len(pictures.sources)
    return render("explanation.html.j2", row=row, left_out=_left_out({"reference images": count}))


def _first(pictures: ReferencePictures) -> ReferencePictures:
    return replace(pictures, sources=pictures.sources[:MAX_REFERENCES])


def _fields(payload: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Names and values as they are shown, without the field that is the title already."""
    title = title_field(payload)
    fields = [(name, value) for name, value in payload.items() if name != title]
    for name, value in fields[:MAX_FIELDS]:
        yield shortened(name), shortened(_as_text(value))
    if len(fields) > MAX_FIELDS:
        yield "not shown", f"{len(fields) - MAX_FIELDS} more fields"


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _left_out(counts: Mapping[str, int]) -> str:
    """What is not shown, in words; empty where all is."""
    parts = [f"{count} more {what}" for what, count in counts.items() if count]
    return f"not shown: {', '.join(parts)}" if parts else ""
