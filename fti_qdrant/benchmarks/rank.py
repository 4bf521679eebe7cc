"""A batch of queries -> composed vectors of every composer -> ranked images from Qdrant."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from qdrant_client import models
from torch import Tensor

from fti_qdrant.benchmarks.base import Benchmark
from fti_qdrant.benchmarks.gallery_contents import NAME, PART, GalleryContents, field_is_any
from fti_qdrant.benchmarks.rankings import EXACT, RankingKey, right_ranks
from fti_qdrant.benchmarks.records import DEPTH, BenchmarkQuery
from fti_qdrant.composers.composer import Composer, References
from fti_qdrant.composers.registry import find_composer
from fti_qdrant.errors import BadImage
from fti_qdrant.gallery import Gallery, ScoredPoint, VectorQuery
from fti_qdrant.images import open_image
from fti_qdrant.parallel_map import parallel_map

TIES = 16
"""Images requested beyond a query's depth, so that equal scores are in the same order always."""

RankingRow = dict[str, Any]
"""One query's ranking by one composer and one search; see ``rankings.schema``."""


@dataclass(frozen=True)
class Ranker:
    """Ranks queries with every composer.

    Attributes:
        contents: what the gallery holds; see ``survey``.
        composers: names of composers.
        searches: EXACT, and INDEX too where the index is measured.
        allow_missing: rank nothing for a query whose reference cannot be read, instead of
            raising BadImage.
    """

    benchmark: Benchmark
    composer: Composer
    gallery: Gallery
    contents: GalleryContents
    composers: tuple[str, ...]
    searches: tuple[str, ...] = (EXACT,)
    allow_missing: bool = False

    @property
    def keys(self) -> list[RankingKey]:
        """Every composer with every search."""
        return [(composer, search) for composer in self.composers for search in self.searches]

    @torch.inference_mode()
    def rank(
        self, queries: Sequence[BenchmarkQuery], keys: Sequence[RankingKey]
    ) -> dict[RankingKey, list[RankingRow]]:
        """The rows of all queries for each key. Each reference passes through the backbone once.

        Raises BadImage, GalleryUnavailable.
        """
        if not keys:
            return {}
        pictures = self._pictures(queries)
        lost = [query for query in queries if not pictures.keys() >= {*query.references}]
        answerable = [query for query in queries if pictures.keys() >= {*query.references}]
        ranked = {key: [_row(key, query, [], [], None, False) for query in lost] for key in keys}
        if answerable:
            names = list(dict.fromkeys(name for name, _ in keys))
            invert = any(find_composer(name).needs_inverter for name in names)
            references = self._references(answerable, pictures, invert)
            for name in names:
                searches = [search for other, search in keys if other == name]
                for key, rows in self._with(name, searches, answerable, references).items():
                    ranked[key] += rows
        return ranked

    def _with(
        self,
        name: str,
        searches: Sequence[str],
        queries: Sequence[BenchmarkQuery],
        references: References,
    ) -> dict[RankingKey, list[RankingRow]]:
        """Composes once with the named composer, and searches in each way."""
        vectors, truncated = compose(self.composer, references, queries, name)
        counts: list[int | None] = [None] * len(queries)
        if find_composer(name).needs_inverter and references.words is not None:
            parts = references.words.counts.split(references.sizes)
            counts = [int(part.sum()) for part in parts]
        ranked = {}
        for search in searches:
            found = search_batch(self.gallery, self.benchmark, queries, vectors, search)
            ranked[name, search] = [
                _row((name, search), query, *lists, count, cut)
                for query, lists, count, cut in zip(queries, found, counts, truncated)
            ]
        return ranked

    def _pictures(self, queries: Sequence[BenchmarkQuery]) -> dict[str, Any]:
        """Reference -> its image; each is read once, several at the same time."""
        ids = list(dict.fromkeys(id for query in queries for id in query.references))
        read = dict(zip(ids, parallel_map(self._picture, ids)))
        return {id: picture for id, picture in read.items() if picture is not None}

    def _picture(self, id: str) -> Any:
        path = self.benchmark.picture(id)
        try:
            if path is None:
                raise BadImage(f"reference {id!r} of {self.benchmark.name} has no image file")
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
        """Features, and pseudo-words if needed, one row for each reference of each query."""
        row_of = {id: row for row, id in enumerate(pictures)}
        distinct = self.composer.image_references(list(pictures.values()), invert=invert)
        rows = torch.tensor([row_of[id] for query in queries for id in query.references])
        rows = rows.to(distinct.pooled.device)
        words = distinct.words.take(rows) if distinct.words is not None else None
        sizes = tuple(len(query.references) for query in queries)
        return References(distinct.pooled[rows], words, sizes)


def compose(
    composer: Composer, references: References, queries: Sequence[BenchmarkQuery], name: str
) -> tuple[Tensor, list[bool]]:
    """Composed vectors ``[Q, d]``, and for each query whether a text was truncated.

    The vectors of a query's several texts are averaged and normalized (FashionIQ's protocol).
    """
    made = [
        composer.compose_references(references, texts, name)
        for texts in zip(*(query.texts for query in queries))
    ]
    mean = torch.stack([F.normalize(one.vectors, dim=-1) for one in made]).mean(dim=0)
    return F.normalize(mean, dim=-1), [any(cut) for cut in zip(*(one.truncated for one in made))]


def search_batch(
    gallery: Gallery,
    benchmark: Benchmark,
    queries: Sequence[BenchmarkQuery],
    vectors: Tensor,
    search: str,
) -> list[tuple[list[ScoredPoint], list[str]]]:
    """For each query the best images to its depth, and its subset in order of score.

    One request for all queries, and one for all subsets. Images with equal scores are in order of
    their names, so that the result does not depend on where the files are.
    """
    numbers = vectors.float().cpu().numpy()
    depths = [benchmark.depth(query) for query in queries]
    asked = [
        VectorQuery(vector, _filter(benchmark, query), depth + TIES, exact=search == EXACT)
        for query, vector, depth in zip(queries, numbers, depths)
    ]
    subsets = [
        VectorQuery(
            vector,
            models.Filter(must=[field_is_any(NAME, query.subset)]),
            len(query.subset),
            exact=True,
        )
        for query, vector in zip(queries, numbers)
        if query.subset
    ]
    found = _search_past_ties(gallery, asked, depths)
    ordered = iter(gallery.search_many(subsets) if subsets else [])
    return [
        (hits[:depth], _names(_in_order(next(ordered))) if query.subset else [])
        for hits, query, depth in zip(found, queries, depths)
    ]


def _search_past_ties(
    gallery: Gallery, asked: list[VectorQuery], depths: Sequence[int]
) -> list[list[ScoredPoint]]:
    """Requests more where all results from the last needed one on are tied.

    Qdrant picks among ties.
    """
    found = gallery.search_many(asked)
    tied = [
        row
        for row, (hits, query, depth) in enumerate(zip(found, asked, depths))
        if len(hits) == query.limit and hits[-1].score == hits[depth - 1].score
    ]
    if tied:
        more = [replace(asked[row], limit=4 * asked[row].limit) for row in tied]
        for row, hits in zip(tied, _search_past_ties(gallery, more, [depths[at] for at in tied])):
            found[row] = hits
    return [_in_order(hits) for hits in found]


def _in_order(hits: Sequence[ScoredPoint]) -> list[ScoredPoint]:
    return sorted(hits, key=lambda hit: (-hit.score, str(hit.payload[NAME])))


def _filter(benchmark: Benchmark, query: BenchmarkQuery) -> models.Filter | None:
    """The query's part of the gallery, without the reference where the protocol excludes it."""
    must: list[models.Condition] = [field_is_any(PART, [query.part])] if query.part else []
    must_not: list[models.Condition] = (
        [] if benchmark.reference_stays else [field_is_any(NAME, query.references)]
    )
    return models.Filter(must=must, must_not=must_not) if must or must_not else None


def _names(hits: Sequence[ScoredPoint]) -> list[str]:
    return [str(hit.payload[NAME]) for hit in hits]


def _row(
    key: RankingKey,
    query: BenchmarkQuery,
    hits: Sequence[ScoredPoint],
    subset: list[str],
    r: int | None,
    truncated: bool,
) -> RankingRow:
    names = _names(hits)
    return {
        "composer": key[0],
        "search": key[1],
        "query": query.id,
        "ids": names[:DEPTH],
        "scores": [hit.score for hit in hits[:DEPTH]],
        "right_ranks": right_ranks(names, query) if len(names) > DEPTH else None,
        "subset": subset,
        "r": r,
        "truncated": truncated,
    }
