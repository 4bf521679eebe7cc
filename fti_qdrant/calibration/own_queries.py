"""Chances fitted on the user's own queries: they are searched now, and their hits judged."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti_qdrant.calibration.fit import Source, fit_calibration
from fti_qdrant.calibration.judged_hits import DEPTH, JudgedHits, JudgedQueryHits
from fti_qdrant.calibration.query_file import (
    JudgedQuery,
    QueryFile,
    Rejected,
    checked_query,
    read_queries,
)
from fti_qdrant.confidence import query_maker
from fti_qdrant.errors import (
    BadCalibration,
    BadCollection,
    BadImage,
    BadQuery,
    PromptTooLong,
    UnknownImageId,
)
from fti_qdrant.gallery.calibration import Calibration, ComposerCalibration, QueryMaker
from fti_qdrant.query import Hits, Query

if TYPE_CHECKING:
    from fti_qdrant.search import ComposedSearch

BATCH = 32
"""Queries that pass the model together."""

IDS = 1000
"""Right answers that are looked up in one request."""

REFUSED = (BadImage, BadQuery, PromptTooLong, UnknownImageId)
"""What is wrong with one query, and not with the others."""

QueriesLike = str | os.PathLike[str] | Sequence[JudgedQuery | Mapping[str, Any]]


@dataclass(frozen=True)
class Calibrated:
    """What ``calibrate`` has made.

    Attributes:
        calibration: with the new maps; the gallery stores it, or you write it into a file.
        fitted: the new maps.
        rejected: queries that were left out.
        missing: composer and kind of query -> why there was too little to calibrate it.
    """

    calibration: Calibration
    fitted: list[ComposerCalibration]
    rejected: list[Rejected] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def calibrate(
    search: ComposedSearch,
    queries: QueriesLike,
    *,
    composers: Sequence[str | None] = (None,),
    depth: int = DEPTH,
    store: bool = True,
) -> Calibrated:
    """Searches with queries whose answers are known, and fits the chance that a hit is right.

    Queries with an image and a text, with an image alone and with a text alone are calibrated
    apart, for their scores cannot be compared.

    Args:
        queries: ``JudgedQuery`` objects, mappings of their attributes, or a file of them (see
            ``read_queries``).
        composers: names; None for the default one.
        depth: how many hits of each query are judged.
        store: in the gallery, for all searches that open it from now on, and for this one.

    Raises:
        BadCalibration: too little was judged for every composer.
        BadCollection: ``store`` for a collection that was attached.
        BadQuery: an unknown composer, or one that needs an inverter where there is none.
        GalleryUnavailable.

    Example:
        >>> calibrate(search, "clicks.jsonl").fitted[0].ece     # doctest: +SKIP
        0.021
    """
    if store and getattr(search.gallery, "attached", False):
        raise BadCollection(
            f"{search.gallery.name} was attached, and nothing is written into it; pass store=False,"
            " write the calibration into a file, and pass that to attach(calibration=...)"
        )
    for composer in composers:
        search.composer.check(composer or search.composer.default_composer)
    file, name = _read(queries)
    rejected = list(file.rejected)
    known = _answerable(search, file.queries, rejected)
    judged = _Judged()
    for composer in composers:
        for number, hits in _searched(search, known, composer, depth, rejected):
            judged.add(number, known[number], hits, query_maker(hits.query, search.composer))
    fitted, missing = judged.fit(name, depth)
    if not fitted:
        reasons = "; ".join(f"{label}: {why}" for label, why in missing.items())
        refused = f"; {len(rejected)} were left out, {rejected[0]}" if rejected else ""
        raise BadCalibration(f"{name}: {reasons or 'no query could be searched'}{refused}")
    calibration = search.calibration.updated(fitted)
    if store:
        search.gallery.store_calibration(calibration)
    unique = sorted(set(rejected), key=lambda one: (one.line, one.reason))
    return Calibrated(calibration, fitted, unique, missing)


class _Judged:
    """Judged hits of queries, by what made their vectors."""

    def __init__(self) -> None:
        self.makers: dict[str, QueryMaker] = {}
        self.hits: dict[str, dict[int, JudgedQueryHits]] = {}
        self.references: dict[str, int] = {}

    def add(self, number: int, query: JudgedQuery, hits: Hits, maker: QueryMaker) -> None:
        label = f"{maker.composer} ({maker.kind})"
        self.makers[label] = maker
        verdicts = [(hit.score, query.verdict(hit.id)) for hit in hits]
        scores = [score for score, right in verdicts if right is not None]
        right = [right for _, right in verdicts if right is not None]
        group = str(query.references or query.text)
        self.hits.setdefault(label, {})[number] = JudgedQueryHits(group, scores, right)
        most = max(self.references.get(label, 0), len(query.references))
        self.references[label] = most

    def fit(self, name: str, depth: int) -> tuple[list[ComposerCalibration], dict[str, str]]:
        """The maps, and why there are no others."""
        fitted, missing = [], {}
        for label, by_number in self.hits.items():
            hits = JudgedHits.of(by_number.values())
            source = Source(name, depth, self.references[label])
            try:
                fitted.append(fit_calibration(hits, self.makers[label], source))
            except BadCalibration as error:
                missing[label] = str(error)
        return fitted, missing


def _read(queries: QueriesLike) -> tuple[QueryFile, str]:
    """The queries by number, and what they are called. Raises BadCalibration."""
    if isinstance(queries, (str, os.PathLike)):
        return read_queries(queries), Path(queries).name
    found: dict[int, JudgedQuery] = {}
    rejected: list[Rejected] = []
    for number, one in enumerate(queries, 1):
        try:
            found[number] = one if isinstance(one, JudgedQuery) else checked_query(one)
        except ValueError as error:
            rejected.append(Rejected(number, str(error)))
    return QueryFile(found, rejected), "own queries"


def _answerable(
    search: ComposedSearch, queries: Mapping[int, JudgedQuery], rejected: list[Rejected]
) -> dict[int, JudgedQuery]:
    """The queries whose right answers are all in the gallery; what is not there is never found."""
    wanted = list(dict.fromkeys(id for query in queries.values() for id in query.right))
    there = set()
    for start in range(0, len(wanted), IDS):
        there |= {image.id for image in search.gallery.retrieve(wanted[start : start + IDS])}
    known = {}
    for number, query in queries.items():
        lost = next((id for id in query.right if id not in there), None)
        if lost is None:
            known[number] = query
        else:
            rejected.append(Rejected(number, f"right: the gallery has no image {lost}"))
    return known


def _searched(
    search: ComposedSearch,
    queries: Mapping[int, JudgedQuery],
    composer: str | None,
    depth: int,
    rejected: list[Rejected],
) -> Iterator[tuple[int, Hits]]:
    """Each query's number and hits; those that cannot be answered are rejected, and no others."""
    remaining = iter(queries.items())
    while batch := list(islice(remaining, BATCH)):
        asked: dict[int, Query] = {}
        for number, query in batch:
            try:
                asked[number] = Query(query.image, query.text, limit=depth, composer=composer)
            except REFUSED as error:
                rejected.append(Rejected(number, str(error)))
        try:
            yield from zip(asked, search.query_many(list(asked.values())))
        except REFUSED:  # of one of them: each is asked alone
            yield from _one_by_one(search, asked, rejected)


def _one_by_one(
    search: ComposedSearch, asked: Mapping[int, Query], rejected: list[Rejected]
) -> Iterator[tuple[int, Hits]]:
    for number, query in asked.items():
        try:
            [hits] = search.query_many([query])
        except REFUSED as error:
            rejected.append(Rejected(number, str(error)))
        else:
            yield number, hits
