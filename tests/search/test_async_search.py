"""The asyncio twin: the same answers, and an event loop that goes on while a gallery is slow."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch

from fti_qdrant import AsyncComposedSearch, ComposedSearch, EdgeGallery
from fti_qdrant.errors import BadImage, BadQuery, GalleryUnavailable
from fti_qdrant.gallery import GalleryPoint, GallerySpec, ScoredPoint, VectorQuery
from fti_qdrant.query import Hits

TEXT = "in red, with long sleeves"
SLOW = 0.5


class SlowGallery(EdgeGallery):
    """The embedded engine behind a slow network."""

    def search_many(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        time.sleep(SLOW)
        return super().search_many(queries)


@pytest.fixture
def slow(
    search: ComposedSearch, spec: GallerySpec, points: list[GalleryPoint], tmp_path: Path
) -> Iterator[ComposedSearch]:
    made = EdgeGallery.create(tmp_path / "slow", spec)
    made.upsert(points)
    made.__class__ = SlowGallery
    yield ComposedSearch(search.composer, made)
    made.close()


def longest_pause(work: Callable[[], Coroutine[Any, Any, Any]]) -> tuple[Any, float]:
    """Runs ``work`` beside a ticker; its result, and how long the loop stood still at most."""

    async def main() -> tuple[Any, float]:
        ticks = [time.monotonic()]

        async def tick() -> None:
            while True:
                await asyncio.sleep(0.005)
                ticks.append(time.monotonic())

        ticker = asyncio.create_task(tick())
        result = await work()
        ticks.append(time.monotonic())
        ticker.cancel()
        return result, max(after - before for before, after in pairwise(ticks))

    return asyncio.run(main())


def answers(hits: Hits) -> dict[str, float]:
    return {hit.id: hit.score for hit in hits}


def test_the_loop_goes_on_while_the_gallery_is_slow(slow: ComposedSearch) -> None:
    twin = AsyncComposedSearch(slow)
    began = time.monotonic()
    hits, pause = longest_pause(lambda: twin.query(text=TEXT))
    assert len(hits) == 10
    assert time.monotonic() - began >= SLOW
    assert pause < 0.9 * SLOW


def test_queries_overlap(slow: ComposedSearch, paths: list[Path]) -> None:
    twin = AsyncComposedSearch(slow)

    async def four() -> list[Hits]:
        return await asyncio.gather(*(twin.query(path, TEXT) for path in paths[:4]))

    began = time.monotonic()
    together, pause = longest_pause(four)
    assert time.monotonic() - began < 3 * SLOW
    assert pause < 0.9 * SLOW
    for path, hits in zip(paths, together):
        assert answers(hits) == pytest.approx(answers(slow.query(path, TEXT)), abs=1e-5)


def test_the_same_answers(search: ComposedSearch, paths: list[Path]) -> None:
    twin = AsyncComposedSearch(search)
    arguments: dict[str, Any] = {"filter": {"color": "red"}, "limit": 3}

    async def main() -> tuple[Any, ...]:
        return (
            await twin.query(paths[1], TEXT, **arguments),
            await twin.query_many([{"text": TEXT}, {"image": paths[1]}]),
            await twin.explain(paths[1], words=2),
        )

    one, many, explanation = asyncio.run(main())
    assert answers(one) == pytest.approx(answers(search.query(paths[1], TEXT, **arguments)))
    assert answers(many[0]) == pytest.approx(answers(search.query(text=TEXT)))
    assert answers(many[1]) == pytest.approx(answers(search.query(paths[1])))
    assert explanation == search.explain(paths[1], words=2)


def test_errors_come_through(search: ComposedSearch) -> None:
    twin = AsyncComposedSearch(search)
    with pytest.raises(BadQuery, match="nothing to search for"):
        asyncio.run(twin.query())
    with pytest.raises(BadImage, match="no such file"):
        asyncio.run(twin.query("missing.jpg", TEXT))


def test_leaving_closes_the_gallery(
    search: ComposedSearch, spec: GallerySpec, tmp_path: Path
) -> None:
    gallery = EdgeGallery.create(tmp_path / "gallery", spec)

    async def main() -> None:
        async with AsyncComposedSearch(ComposedSearch(search.composer, gallery)):
            assert gallery.count() == 0

    asyncio.run(main())
    with pytest.raises(GalleryUnavailable, match="is closed"):
        gallery.count()


@pytest.mark.parametrize(
    "name",
    ["open", "connect", "over", "query", "query_many", "compose", "explain", "facets", "close"],
)
def test_the_twin_has_the_same_typed_signature(name: str) -> None:
    ours = inspect.signature(getattr(AsyncComposedSearch, name)).parameters
    theirs = inspect.signature(getattr(ComposedSearch, name)).parameters
    assert list(ours)[: len(theirs)] == list(theirs)
    assert set(ours) - set(theirs) <= {"max_batch", "max_queue", "max_wait", "observer"}
    for parameter, other in theirs.items():
        same = ours[parameter]
        assert (same.kind, same.default) == (other.kind, other.default)
        if (name, parameter) != ("connect", "url"):  # which takes an asynchronous client, too
            assert same.annotation == other.annotation
    assert all(
        one.annotation is not inspect.Parameter.empty for one in ours.values() if one.name != "self"
    )
    assert inspect.iscoroutinefunction(getattr(AsyncComposedSearch, name))


def test_the_twin_has_every_public_method() -> None:
    assert set(public(AsyncComposedSearch)) == set(public(ComposedSearch))


def public(kind: type) -> list[str]:
    return [name for name, _ in inspect.getmembers(kind, callable) if not name.startswith("_")]


def test_opening_by_itself(
    spec: GallerySpec, inverter: str, points: list[GalleryPoint], tmp_path: Path
) -> None:
    with EdgeGallery.create(tmp_path / "gallery", spec) as gallery:
        gallery.upsert(points)

    async def main() -> list[str]:
        device = torch.device("cpu")
        opened = AsyncComposedSearch.open(tmp_path / "gallery", inverter=inverter, device=device)
        async with await opened as search:
            return [hit.id for hit in await search.query(text=TEXT, limit=3)]

    assert len(asyncio.run(main())) == 3
    with pytest.raises(GalleryUnavailable, match="does not answer"):
        asyncio.run(AsyncComposedSearch.connect("http://127.0.0.1:9", "shop"))
