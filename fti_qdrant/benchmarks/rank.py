"""A batch of queries -> composed vectors of every method -> ranked images from Qdrant."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from qdrant_client import models
from torch import Tensor

from fti_qdrant.benchmarks.gallery import NAME, PART, only
from fti_qdrant.benchmarks.protocol import DEPTH, Benchmark, BenchmarkQuery
from fti_qdrant.composer import PSEUDO_WORD_METHODS, Composer, References
from fti_qdrant.errors import BadImage
from fti_qdrant.gallery import Gallery, ScoredPoint, VectorQuery
from fti_qdrant.images import open_image

EXACT, INDEX = "exact", "index"
"""How Qdrant searches: every vector, or by its approximate index."""

Row = dict[str, Any]
"""One query's ranking by one method and one search; see ``results.SCHEMA``."""


@dataclass(frozen=True)
class Ranker:
    """Ranks queries with every method.

    Attributes:
        searches: EXACT, and INDEX too where the index is measured.
        allow_missing: rank nothing for a query whose reference cannot be read; else BadImage.
    """

    benchmark: Benchmark
    composer: Composer
    gallery: Gallery
    methods: tuple[str, ...]
    searches: tuple[str, ...] = (EXACT,)
    allow_missing: bool = False

    @torch.inference_mode()
    def rank(
        self, queries: Sequence[BenchmarkQuery], methods: Sequence[str]
    ) -> dict[str, list[Row]]:
        """Method -> rows of all queries. Each reference passes the backbone once.

        Raises BadImage, GalleryUnavailable.
        """
        if not methods:
            return {}
        pictures = self._pictures(queries)
        asked = [query for query in queries if query.reference in pictures]
        lost = [
            _row("", search, query, [], [], None, False)
            for query in queries
            if query.reference not in pictures
            for search in self.searches
        ]
        references = self._references(asked, pictures) if asked else None
        ranked = {}
        for method in methods:
            rows = [{**row, "composer": method} for row in lost]
            ranked[method] = rows + (self._by(method, asked, references) if references else [])
        return ranked

    def _by(
        self, method: str, queries: Sequence[BenchmarkQuery], references: References
    ) -> list[Row]:
        vectors, truncated = compose(self.composer, references, queries, method)
        counts: list[int | None] = [None] * len(queries)
        if method in PSEUDO_WORD_METHODS and references.words is not None:
            counts = list(references.words.counts.tolist())
        return [
            _row(method, search, query, *lists, count, cut)
            for search in self.searches
            for query, lists, count, cut in zip(
                queries,
                search_batch(self.gallery, self.benchmark, queries, vectors, search),
                counts,
                truncated,
            )
        ]

    def _pictures(self, queries: Sequence[BenchmarkQuery]) -> dict[str, Any]:
        """Reference -> its picture, each read once, several at a time."""

        def read(id: str) -> Any:
            try:
                path = self.benchmark.picture(id)
                if path is None:
                    raise BadImage(f"reference {id!r} of {self.benchmark.name} has no picture")
                return open_image(path).image
            except BadImage:
                if not self.allow_missing:
                    raise
                return None

        ids = list(dict.fromkeys(query.reference for query in queries))
        with ThreadPoolExecutor() as pool:
            read_ones = dict(zip(ids, pool.map(read, ids)))
        return {id: picture for id, picture in read_ones.items() if picture is not None}

    def _references(
        self, queries: Sequence[BenchmarkQuery], pictures: dict[str, Any]
    ) -> References:
        """Features and pseudo-words, one row for each query."""
        place = {id: row for row, id in enumerate(pictures)}
        features = self.composer.backbone.image_features(list(pictures.values()))
        distinct = self.composer.references(features, (1,) * len(pictures))
        rows = torch.tensor([place[query.reference] for query in queries])
        rows = rows.to(distinct.pooled.device)
        words = distinct.words.take(rows) if distinct.words is not None else None
        return References(distinct.pooled[rows], words, (1,) * len(queries))


def compose(
    composer: Composer, references: References, queries: Sequence[BenchmarkQuery], method: str
) -> tuple[Tensor, list[bool]]:
    """Composed vectors ``[Q, d]``, and whether a text was cut.

    The vectors of a query's several texts are averaged and normalised (FashionIQ's protocol).
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
    """For each query the DEPTH best images, and its subset in order of score: one request each."""
    numbers = vectors.float().cpu().numpy()
    exact = search == EXACT
    asked = [
        VectorQuery(vector, _filter(benchmark, query), DEPTH, exact=exact)
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
    found = gallery.search_many(asked)
    ordered = iter(gallery.search_many(subsets) if subsets else [])
    return [(hits, _names(next(ordered)) if q.subset else []) for hits, q in zip(found, queries)]


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
    method: str,
    search: str,
    query: BenchmarkQuery,
    hits: Sequence[ScoredPoint],
    subset: list[str],
    r: int | None,
    truncated: bool,
) -> Row:
    return {
        "composer": method,
        "search": search,
        "query": query.id,
        "ids": _names(hits),
        "scores": [hit.score for hit in hits],
        "subset": subset,
        "r": r,
        "truncated": truncated,
    }
