"""A batch of queries -> composed vectors of every method -> ranked images from Qdrant."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from qdrant_client import models
from torch import Tensor

from fti_qdrant.benchmarks.base import DEPTH, Benchmark, BenchmarkQuery
from fti_qdrant.benchmarks.gallery_contents import NAME, PART, Contents, only
from fti_qdrant.benchmarks.rankings import EXACT, Run
from fti_qdrant.composers.composer import Composer, References
from fti_qdrant.composers.registry import find_composer
from fti_qdrant.errors import BadImage
from fti_qdrant.gallery import Gallery, ScoredPoint, VectorQuery
from fti_qdrant.images import open_image

TIES = 16
"""Images asked for beyond DEPTH, for a like order of equal scores."""

Row = dict[str, Any]
"""One query's ranking by one method and one search; see ``rankings.schema``."""


@dataclass(frozen=True)
class Ranker:
    """Ranks queries with every method.

    Attributes:
        contents: what the gallery holds; see ``survey``.
        searches: EXACT, and INDEX too where the index is measured.
        allow_missing: rank nothing for a query whose reference cannot be read; else BadImage.
    """

    benchmark: Benchmark
    composer: Composer
    gallery: Gallery
    contents: Contents
    methods: tuple[str, ...]
    searches: tuple[str, ...] = (EXACT,)
    allow_missing: bool = False

    @property
    def runs(self) -> list[Run]:
        """Every method by every search."""
        return [(method, search) for method in self.methods for search in self.searches]

    @torch.inference_mode()
    def rank(self, queries: Sequence[BenchmarkQuery], runs: Sequence[Run]) -> dict[Run, list[Row]]:
        """Rows of all queries for each run. Each reference passes the backbone once.

        Raises BadImage, GalleryUnavailable.
        """
        if not runs:
            return {}
        pictures = self._pictures(queries)
        asked = [query for query in queries if query.reference in pictures]
        lost = [query for query in queries if query.reference not in pictures]
        ranked = {run: [_row(run, query, [], [], None, False) for query in lost] for run in runs}
        if asked:
            methods = list(dict.fromkeys(method for method, _ in runs))
            invert = any(find_composer(method).needs_inverter for method in methods)
            references = self._references(asked, pictures, invert)
            for method in methods:
                for run, rows in self._by(method, asked, references, runs).items():
                    ranked[run] += rows
        return ranked

    def _by(
        self,
        method: str,
        queries: Sequence[BenchmarkQuery],
        references: References,
        runs: Sequence[Run],
    ) -> dict[Run, list[Row]]:
        """Composed once, searched in each of the method's ways."""
        vectors, truncated = compose(self.composer, references, queries, method)
        counts: list[int | None] = [None] * len(queries)
        if find_composer(method).needs_inverter and references.words is not None:
            counts = list(references.words.counts.tolist())
        ranked = {}
        for run in (run for run in runs if run[0] == method):
            found = search_batch(self.gallery, self.benchmark, queries, vectors, run[1])
            ranked[run] = [
                _row(run, query, *lists, count, cut)
                for query, lists, count, cut in zip(queries, found, counts, truncated)
            ]
        return ranked

    def _pictures(self, queries: Sequence[BenchmarkQuery]) -> dict[str, Any]:
        """Reference -> its picture, each read once, several at a time."""
        ids = list(dict.fromkeys(query.reference for query in queries))
        with ThreadPoolExecutor() as pool:
            read = dict(zip(ids, pool.map(self._picture, ids)))
        return {id: picture for id, picture in read.items() if picture is not None}

    def _picture(self, id: str) -> Any:
        path = self.benchmark.picture(id)
        try:
            if path is None:
                raise BadImage(f"reference {id!r} of {self.benchmark.name} has no picture")
            loaded = open_image(path)
        except BadImage:
            if self.allow_missing:
                return None
            raise
        if loaded.sha256 != self.contents.references.get(id, loaded.sha256):
            raise BadImage(
                f"{str(path)!r} has changed since it was ingested into {self.gallery.name}; "
                "evaluate into another --gallery and --out"
            )
        return loaded.image

    def _references(
        self, queries: Sequence[BenchmarkQuery], pictures: dict[str, Any], invert: bool
    ) -> References:
        """Features, and pseudo-words if needed, one row for each query."""
        place = {id: row for row, id in enumerate(pictures)}
        features = self.composer.backbone.image_features(list(pictures.values()))
        distinct = self.composer.references(features, (1,) * len(pictures), invert=invert)
        rows = torch.tensor([place[query.reference] for query in queries])
        rows = rows.to(distinct.pooled.device)
        words = distinct.words.take(rows) if distinct.words is not None else None
        return References(distinct.pooled[rows], words, (1,) * len(queries))


def compose(
    composer: Composer, references: References, queries: Sequence[BenchmarkQuery], method: str
) -> tuple[Tensor, list[bool]]:
    """Composed vectors ``[Q, d]``, and whether a text was cut.

    The vectors of a query's several texts are averaged and normalized (FashionIQ's protocol).
    """
    made = [
        composer.compose_references(references, texts, method)
        for texts in zip(*(query.texts for query in queries))
    ]
    mean = torch.stack([one.vectors for one in made]).mean(dim=0)
    return F.normalize(mean, dim=-1), [any(cut) for cut in zip(*(one.truncated for one in made))]


def search_batch(
    gallery: Gallery,
    benchmark: Benchmark,
    queries: Sequence[BenchmarkQuery],
    vectors: Tensor,
    search: str,
) -> list[tuple[list[ScoredPoint], list[str]]]:
    """For each query the DEPTH best images, and its subset in order of score: one request each.

    Equal scores stand in order of the image's name, wherever its picture lies.
    """
    numbers = vectors.float().cpu().numpy()
    asked = [
        VectorQuery(vector, _filter(benchmark, query), DEPTH + TIES, exact=search == EXACT)
        for query, vector in zip(queries, numbers)
    ]
    subsets = [
        VectorQuery(
            vector,
            models.Filter(must=[only(NAME, query.subset)]),
            len(query.subset),
            exact=True,
        )
        for query, vector in zip(queries, numbers)
        if query.subset
    ]
    found = _search_past_ties(gallery, asked)
    ordered = iter(gallery.search_many(subsets) if subsets else [])
    return [
        (hits[:DEPTH], _names(_in_order(next(ordered))) if query.subset else [])
        for hits, query in zip(found, queries)
    ]


def _search_past_ties(gallery: Gallery, asked: list[VectorQuery]) -> list[list[ScoredPoint]]:
    """Asks for more where the DEPTH-th score goes on to the end: Qdrant cuts ties as it likes."""
    found = gallery.search_many(asked)
    tied = [
        row
        for row, (hits, query) in enumerate(zip(found, asked))
        if len(hits) == query.limit and hits[-1].score == hits[DEPTH - 1].score
    ]
    if tied:
        more = [replace(asked[row], limit=4 * asked[row].limit) for row in tied]
        for row, hits in zip(tied, _search_past_ties(gallery, more)):
            found[row] = hits
    return [_in_order(hits) for hits in found]


def _in_order(hits: Sequence[ScoredPoint]) -> list[ScoredPoint]:
    return sorted(hits, key=lambda hit: (-hit.score, str(hit.payload[NAME])))


def _filter(benchmark: Benchmark, query: BenchmarkQuery) -> models.Filter | None:
    """The query's part of the gallery, without the reference where the protocol leaves it out."""
    must: list[models.Condition] = [only(PART, [query.part])] if query.part else []
    must_not: list[models.Condition] = (
        [] if benchmark.reference_stays else [only(NAME, [query.reference])]
    )
    return models.Filter(must=must, must_not=must_not) if must or must_not else None


def _names(hits: Sequence[ScoredPoint]) -> list[str]:
    return [str(hit.payload[NAME]) for hit in hits]


def _row(
    run: Run,
    query: BenchmarkQuery,
    hits: Sequence[ScoredPoint],
    subset: list[str],
    r: int | None,
    truncated: bool,
) -> Row:
    return {
        "composer": run[0],
        "search": run[1],
        "query": query.id,
        "ids": _names(hits),
        "scores": [hit.score for hit in hits],
        "subset": subset,
        "r": r,
        "truncated": truncated,
    }
