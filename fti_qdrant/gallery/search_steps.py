"""Searches with pages, cutoff, groups or another order, as series of what an engine can answer.

Each search is a generator: it yields requests and is sent their answers. ``answer_all`` runs many
side by side, so that each of their steps is one request to the engine.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np

from fti_qdrant.errors import BadQuery
from fti_qdrant.gallery.chance_map import ChanceMap
from fti_qdrant.gallery.field_order import ordered
from fti_qdrant.gallery.grouping import Group, beyond, grouped, having
from fti_qdrant.gallery.point_ids import id_order
from fti_qdrant.gallery.points import ScoredPoint
from fti_qdrant.gallery.protocol import DIVERSE_CANDIDATES, MOST_HITS, VectorQuery

if TYPE_CHECKING:
    from qdrant_client import models

Points = list[ScoredPoint]
Steps = Generator[list[VectorQuery], list[Points], Points]
"""Yields queries without offset and cutoff, ordered by score or by diversity."""

FIRST_POOL = 1000
"""Images read first where all that the cutoff leaves are put in order; most cutoffs leave fewer."""


def answer_all(
    queries: Sequence[VectorQuery],
    ask: Callable[[list[VectorQuery]], list[Points]],
    count: Callable[[models.Filter | None], int],
    *,
    makes_groups: bool,
) -> list[Points]:
    """Answers searches in as few requests as their longest one needs.

    Args:
        ask: answers queries that have neither offset, cutoff nor order_by, in one request.
        count: of images that pass a filter.
        makes_groups: whether ``ask`` also answers queries with ``group_by``.
    """
    running = [_steps(query, count, makes_groups) for query in queries]
    answers: list[Points] = [[] for _ in queries]
    requested: dict[int, list[VectorQuery]] = {}

    def advance(row: int, found: list[Points] | None) -> None:
        try:
            requested[row] = running[row].send(found)  # type: ignore[arg-type]
        except StopIteration as done:
            answers[row] = done.value
            requested.pop(row, None)

    for row in range(len(running)):
        advance(row, None)
    while requested:
        pending = dict(requested)
        found = iter(ask([query for part in pending.values() for query in part]))
        for row, part in pending.items():
            advance(row, list(islice(found, len(part))))
    return answers


def least_score(best: float, cutoff: float, chances: ChanceMap | None = None) -> float:
    """The least score that a cutoff keeps: a share of the best score.

    Below 0, where a share of the best would be better than the best, it is as far below it.

    Args:
        chances: the score whose chance is that share of the best one's chance is returned instead.

    Example:
        >>> least_score(0.5, 0.5), least_score(-0.5, 0.5)
        (0.25, -0.75)
    """
    if chances is not None:
        return chances.least_cosine(cutoff * chances.of(best))
    return float(np.float32(best - (1 - cutoff) * abs(best)))


def _steps(
    query: VectorQuery, count: Callable[[models.Filter | None], int], makes_groups: bool
) -> Steps:
    for name, least in (("limit", 1), ("group_size", 1), ("offset", 0)):
        if getattr(query, name) < least:
            raise BadQuery(f"{name} must be at least {least}, got {getattr(query, name)}")
    most = DIVERSE_CANDIDATES if query.diversity else MOST_HITS
    if (query.offset + query.limit) * query.group_size > most:
        there = count(query.filter)
        if query.offset >= there:
            return []
        if there > most:
            raise _too_many(query, most)
        query = replace(query, group_size=min(query.group_size, there))
    if query.order_by or (query.diversity and query.group_by):
        return (yield from _reordered(query))
    if query.group_by:
        return (yield from (_groups_made if makes_groups else _groups)(query))
    return (yield from (_diverse if query.diversity else _by_score)(query))


def _by_score(query: VectorQuery) -> Steps:
    """Reads on where images of equal score are on both sides of the page's end.

    An engine returns any of these, and others for another limit: pages would overlap.
    """
    end = query.offset + query.limit
    asked = end + 1
    [found] = yield [_plain(query, asked)]
    while len(found) == asked < MOST_HITS and found[-1].score == found[end - 1].score:
        asked = min(4 * asked, MOST_HITS)
        [found] = yield [_plain(query, asked)]
    return _cut(found, query)[query.offset : end]


def _diverse(query: VectorQuery) -> Steps:
    bounded = yield from _bounded(query)
    [found] = yield [_plain(bounded, query.offset + query.limit)]
    return found[query.offset :]


def _reordered(query: VectorQuery) -> Steps:
    """Reads the ids of all images that are put in order, then those of the page."""
    bounded = yield from _bounded(query)
    keys = (query.order_by.key if query.order_by else None, query.group_by)
    light = _ids_with(bounded, *keys)
    if query.order_by:
        found = ordered((yield from _all(light)), query.order_by)
    else:
        [found] = yield [_plain(light, DIVERSE_CANDIDATES)]
    if query.group_by:
        groups = grouped(found, query.group_by, query.group_size)
    else:
        groups = [Group(None, [hit]) for hit in found]
    return (yield from _page(query, groups))


def _groups_made(query: VectorQuery) -> Steps:
    """Groups by the engine, which skips none."""
    end = query.offset + query.limit
    [found] = yield [replace(query, limit=end, offset=0, cutoff=None)]
    groups: dict[object, list[ScoredPoint]] = {}
    for hit in _cut(sorted(found, key=by_score), query):
        groups.setdefault(hit.group, []).append(hit)
    return [hit for group in list(groups.values())[query.offset : end] for hit in group]


def _groups(query: VectorQuery) -> Steps:
    """Groups by us: finds enough of them, then fills those of the page.

    Each search for further groups leaves out those already found, so that many images of one
    product do not hide the others.
    """
    assert query.group_by is not None
    key, size, end = query.group_by, query.group_size, query.offset + query.limit
    bounded = yield from _bounded(query)
    light = _ids_with(bounded, key)
    seen: Points = []
    groups: list[Group] = []
    asked, more = end * size, True
    while more:
        asked *= 2
        unseen = beyond(key, [group.value for group in groups if group.value is not None])
        [found] = yield [_plain(_filtered(light, unseen), asked)]
        seen = _merged(seen, found)
        groups = grouped(seen, key, size)
        enough = len(groups) >= end and groups[end - 1].hits[0].score > found[-1].score
        more = len(found) == asked and not enough
    page = groups[query.offset : end]
    short = [group.value for group in page if len(group.hits) < size and group.value is not None]
    asked = 2 * len(short) * size
    while short:
        asked *= 2
        [found] = yield [_plain(_filtered(light, having(key, short)), asked)]
        seen = _merged(seen, found)
        groups = grouped(seen, key, size)
        full = {group.value for group in groups if len(group.hits) == size}
        if len(found) < asked or full.issuperset(short):
            break
    return (yield from _page(query, groups))


def _page(query: VectorQuery, groups: Sequence[Group]) -> Steps:
    """The images of a page's groups in full, by their ids."""
    from qdrant_client import models

    page = groups[query.offset : query.offset + query.limit]
    ids = list(dict.fromkeys(hit.id for group in page for hit in group.hits))
    if not ids:
        return []
    only = models.Filter(must=[models.HasIdCondition(has_id=ids)])  # type: ignore[arg-type]
    request = VectorQuery(
        query.vector,
        only,
        len(ids),
        with_vectors=query.with_vectors,
        exact=True,
        payload_fields=query.payload_fields,
    )
    [found] = yield [request]
    full = {hit.id: hit for hit in found}
    return [
        replace(full[hit.id], group=group.value)
        for group in page
        for hit in group.hits
        if hit.id in full  # not deleted meanwhile
    ]


def _all(query: VectorQuery) -> Steps:
    """Every image that the query's threshold leaves."""
    asked = FIRST_POOL
    [found] = yield [_plain(query, asked)]
    if len(found) == asked:
        [found] = yield [_plain(query, MOST_HITS + 1)]
    if len(found) > MOST_HITS:
        raise BadQuery(
            f"order_by: the cutoff leaves more than {MOST_HITS:,} images to put in order; raise "
            "cutoff or score_threshold, or pass a filter"
        )
    return found


def _bounded(query: VectorQuery) -> Generator[list[VectorQuery], list[Points], VectorQuery]:
    """The query with a score threshold in place of its cutoff."""
    if query.cutoff is None:
        return query
    [best] = yield [replace(_plain(query, 1), diversity=None)]
    least = least_score(best[0].score, query.cutoff, query.chances) if best else 1.0
    if query.score_threshold is not None:
        least = max(least, query.score_threshold)
    return replace(query, cutoff=None, score_threshold=least)


def _plain(query: VectorQuery, limit: int) -> VectorQuery:
    """What an engine answers in one step."""
    return replace(query, limit=limit, offset=0, cutoff=None, group_by=None, order_by=None)


def _ids_with(query: VectorQuery, *keys: str | None) -> VectorQuery:
    """The query for ids, and the values of a few fields."""
    wanted = tuple(key for key in keys if key is not None)
    return replace(query, payload_fields=wanted, with_vectors=False)


def _filtered(query: VectorQuery, filter: models.Filter | None) -> VectorQuery:
    from fti_qdrant.filters.grammar import both

    return replace(query, filter=both(query.filter, filter))


def _merged(first: Points, second: Points) -> Points:
    return sorted({hit.id: hit for hit in (*first, *second)}.values(), key=by_score)


def _cut(hits: Points, query: VectorQuery) -> Points:
    """Hits, the best one first, down to what the cutoff makes of its score."""
    if query.cutoff is None or not hits:
        return hits
    least = np.float32(least_score(hits[0].score, query.cutoff, query.chances))
    return [hit for hit in hits if np.float32(hit.score) >= least]


def in_order(hits: Iterable[ScoredPoint], query: VectorQuery) -> Points:
    """An engine's answer: by score, or in the order of diversity as it is."""
    if not query.diversity:
        return sorted(hits, key=by_score)
    if query.with_vectors:
        return list(hits)
    return [replace(hit, vector=None) for hit in hits]  # Edge returns what it has compared


def by_score(hit: ScoredPoint) -> tuple[float, bool, Any]:
    """Sort key: the best first, equal scores by id."""
    return -hit.score, *id_order(hit.id)


def _too_many(query: VectorQuery, most: int) -> BadQuery:
    times = f", times group_size {query.group_size}" if query.group_size > 1 else ""
    return BadQuery(
        f"offset {query.offset} and limit {query.limit}{times} reach beyond the {most:,} images "
        f"that {'diversity chooses from' if query.diversity else 'one query can go through'}; "
        "use a filter to go further"
    )
