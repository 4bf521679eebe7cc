"""The asynchronous search answers as the synchronous one, over every kind of store and client."""

from __future__ import annotations

import asyncio
import threading
import uuid
import warnings
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from qdrant_client import AsyncQdrantClient, QdrantClient

from fti_qdrant import AsyncComposedSearch, ComposedSearch, Composer, EdgeGallery
from fti_qdrant.errors import (
    BadQuery,
    FtiError,
    GalleryUnavailable,
    Overloaded,
    PromptTooLong,
)
from fti_qdrant.gallery import GalleryPoint, GallerySpec, ServerGallery, point_id
from fti_qdrant.gallery.calibration import Calibration
from fti_qdrant.query import Hits, Query
from fti_qdrant.query_model import ModelTask, QueryModel, Understood
from tests.calibration.judged import calibration_for
from tests.qdrant_grpc_standin import serving
from tests.qdrant_standin import serving_rest

TEXT = "in red, with long sleeves"
FIRST = point_id("0.png")

KINDS = ["edge", "memory", "folder", "rest", "rest client", "rest async", "async memory", "grpc"]
"""Stores, and how the asynchronous search gets to them."""


class Twins:
    """A synchronous search, and how to make an asynchronous one of the same images."""

    def __init__(
        self,
        search: ComposedSearch,
        make: Callable[[], Awaitable[AsyncComposedSearch]],
        *,
        apart: bool,
    ):
        """``apart``: the two have nothing in common, so that the new one may be closed."""
        self.search = search
        self.make = make
        self.apart = apart

    def run(self, work: Callable[[AsyncComposedSearch], Awaitable[Any]]) -> Any:
        async def main() -> Any:
            made = await self.make()
            try:
                return await work(made)
            finally:
                if self.apart:
                    await made.close()

        return asyncio.run(main())


@pytest.fixture(scope="module", params=KINDS)
def twins(
    request: pytest.FixtureRequest,
    composer: Composer,
    model: str,
    inverter: str,
    spec: GallerySpec,
    points: list[GalleryPoint],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Twins]:
    folder = tmp_path_factory.mktemp("twins")
    options: dict[str, Any] = {"inverter": inverter, "device": "cpu"}
    kind = request.param
    with ExitStack() as open_things, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # local mode has no payload indexes, and says so
        patch = open_things.enter_context(pytest.MonkeyPatch.context())
        patch.setattr(Composer, "load", lambda *_, **__: composer)  # once is enough
        if kind == "edge":
            gallery: Any = EdgeGallery.create(folder / "gallery", spec)
            gallery.upsert(points)
            gallery.store_calibration(known(composer))
            search = ComposedSearch(composer, gallery)
            open_things.enter_context(search)

            async def make() -> AsyncComposedSearch:
                return AsyncComposedSearch(search)

            yield Twins(search, make, apart=False)
            return
        port = None
        if kind.startswith("rest"):
            port = open_things.enter_context(serving_rest(folder / "standin"))
            client = QdrantClient(url=f"http://127.0.0.1:{port}", check_compatibility=False)
        elif kind == "grpc":
            port = open_things.enter_context(serving(folder / "standin"))
            client = QdrantClient(
                url="http://127.0.0.1:1",
                grpc_port=port,
                prefer_grpc=True,
                check_compatibility=False,
            )
        elif kind == "folder":
            client = QdrantClient(path=str(folder / "db"))
        else:
            client = QdrantClient(":memory:")
        gallery = ServerGallery.create(client, "shop", spec)
        gallery.upsert(points)
        gallery.store_calibration(known(composer))
        search = open_things.enter_context(ComposedSearch(composer, gallery))

        async def connect() -> AsyncComposedSearch:
            if kind in ("memory", "folder", "grpc"):
                return AsyncComposedSearch(search)
            if kind == "rest":
                url = f"http://127.0.0.1:{port}"
                return await AsyncComposedSearch.connect(url, "shop", **options)
            if kind == "rest client":
                return await AsyncComposedSearch.connect(client, "shop", **options)
            if kind == "rest async":
                theirs = AsyncQdrantClient(**client.init_options)
            else:
                theirs = await filled(spec, points, known(composer))
            return await AsyncComposedSearch.connect(theirs, "shop", **options)

        apart = kind not in ("memory", "folder", "grpc")
        yield Twins(search, connect, apart=apart)


def known(composer: Composer) -> Calibration:
    """What the gallery is calibrated for: not for all of the queries below."""
    both = Query(FIRST, TEXT, composer="pdv")
    return calibration_for(composer, both, Query(text=TEXT, composer="text"))


async def filled(
    spec: GallerySpec, points: list[GalleryPoint], calibration: Calibration
) -> AsyncQdrantClient:
    """An asynchronous local mode, whose data no other client can see."""
    from fti_qdrant.awaiting import run_awaiting
    from fti_qdrant.gallery.async_gallery import AwaitedClient

    client = AsyncQdrantClient(":memory:")
    gallery = await run_awaiting(ServerGallery.create, AwaitedClient(client), "shop", spec)
    await run_awaiting(gallery.upsert, points)
    await run_awaiting(gallery.store_calibration, calibration)
    return client


ASKED: list[dict[str, Any]] = [
    {"text": TEXT},
    {"text": TEXT, "limit": 3, "offset": 2, "filter": {"color": "red"}},
    {"image": FIRST, "text": TEXT},
    {"image": uuid.UUID(FIRST), "text": TEXT, "exclude_reference": False, "with_vectors": True},
    {"image": 0, "text": TEXT, "composer": "sum", "text_weight": 0.3},
    {"image": 1, "text": TEXT, "avoid": "stripes"},
    {"image": [2, FIRST], "text": TEXT, "weights": [1, 3]},
    {"image": 3},
    {"image": 3, "text": TEXT, "composer": "text"},
    {"image": 4, "text": TEXT, "explain": True},
    {"image": FIRST, "text": TEXT, "like": [point_id("5.png")], "dislike": [point_id("6.png")]},
    {"text": TEXT, "group_by": "color", "group_size": 2},
    {"text": TEXT, "order_by": "-price", "score_threshold": -1},
    {"text": TEXT, "diversity": 0.5, "limit": 4},
    {"text": TEXT, "cutoff": 0.9, "filter": {"shelf.row": {"lt": 7}}},
    {"image": FIRST, "text": TEXT, "cutoff": 0.9},
    {"image": FIRST, "text": TEXT, "min_confidence": 0.06, "order_by": "-price"},
    {"text": TEXT, "with_payload": ["name"], "exact": True},
    {"image": 7, "text": "one two three four five six seven eight nine ten " * 9},
]
"""Pictures by their numbers."""

WRONG: list[dict[str, Any]] = [
    {},
    {"image": "missing.jpg", "text": TEXT},
    {"image": b"no picture", "text": TEXT},
    {"image": str(uuid.uuid4()), "text": TEXT},
    {"text": TEXT, "filter": {"colour": "red"}},
    {"text": TEXT, "filter": {"price": "cheap"}},
    {"text": TEXT, "group_by": "price"},
    {"text": TEXT, "limit": 0},
    {"text": TEXT, "composer": "best"},
    {"image": "http://example.com/a.jpg", "text": TEXT},
    {"text": TEXT, "like": [str(uuid.uuid4())]},
    {"image": FIRST, "text": TEXT, "avoid": "dog", "min_confidence": 0.5},
    {"image": FIRST, "text": TEXT, "composer": "fti", "min_confidence": 0.5},
    {"image": [0, 1, 2, 3, 4, 5, 6, 7, 8], "text": TEXT, "composer": "fti"},  # too long a prompt
]


def with_paths(asked: dict[str, Any], paths: list[Path]) -> dict[str, Any]:
    image = asked.get("image")
    if isinstance(image, list):
        image = [paths[one] if isinstance(one, int) else one for one in image]
    elif isinstance(image, int):
        image = paths[image]
    return asked if image is None else {**asked, "image": image}


def check_same(hits: Hits, expected: Hits) -> None:
    assert [hit.id for hit in hits] == [hit.id for hit in expected]
    for hit, other in zip(hits, expected):
        assert hit.score == pytest.approx(other.score, abs=2e-5)
        assert hit.confidence == pytest.approx(other.confidence, abs=1e-3)
        assert (hit.payload, hit.uri, hit.group) == (other.payload, other.uri, other.group)
        assert (hit.vector is None) == (other.vector is None)
        if hit.vector is not None:
            np.testing.assert_allclose(hit.vector, other.vector, atol=1e-6)
    query, other_query = hits.query, expected.query
    assert (query.composer, query.warnings, query.cutoff_by) == (
        other_query.composer,
        other_query.warnings,
        other_query.cutoff_by,
    )
    assert (hits.explanation is None) == (expected.explanation is None)
    if hits.explanation is not None and expected.explanation is not None:
        assert hits.explanation.prompt_in_words == expected.explanation.prompt_in_words
        assert hits.explanation.pictures == expected.explanation.pictures


def test_the_same_answers_alone_and_together(twins: Twins, paths: list[Path]) -> None:
    asked = [with_paths(one, paths) for one in ASKED]
    expected = [twins.search.query(**one) for one in asked]

    async def work(twin: AsyncComposedSearch) -> tuple[list[Hits], list[Hits], list[Hits]]:
        alone = [await twin.query(**one) for one in asked[:4]]
        together = await asyncio.gather(*(twin.query(**one) for one in asked))
        return alone, together, await twin.query_many(asked)

    alone, together, many = twins.run(work)
    for found in (alone, together, many):
        for hits, other in zip(found, expected):
            check_same(hits, other)
    assert any(expected)
    assert {hits.query.cutoff_by for hits in expected} == {None, "confidence"}


def test_the_same_errors_and_no_neighbor_suffers(twins: Twins, paths: list[Path]) -> None:
    bad = [with_paths(one, paths) for one in WRONG]

    async def work(twin: AsyncComposedSearch) -> list[Any]:
        good = [{"text": TEXT}, {"image": paths[0], "text": TEXT}]
        return await asyncio.gather(
            *(twin.query(**one) for one in [*bad, *good]), return_exceptions=True
        )

    *failed, words, picture = twins.run(work)
    assert isinstance(failed[-1], PromptTooLong)
    for asked, error in zip(bad, failed):
        with pytest.raises(FtiError) as expected:
            twins.search.query(**asked)
        assert type(error) is expected.type
        assert str(error) == str(expected.value)
    check_same(words, twins.search.query(text=TEXT))
    check_same(picture, twins.search.query(paths[0], TEXT))


def test_the_other_methods(twins: Twins, paths: list[Path]) -> None:
    async def work(twin: AsyncComposedSearch) -> tuple[Any, ...]:
        return (
            await twin.compose(paths[1], TEXT, like=FIRST),
            await twin.explain(paths[1], TEXT, words=2),
            await twin.gallery.count(),
            await twin.gallery.retrieve([FIRST, str(uuid.uuid4())]),
            await twin.query_many([]),
            twin.gallery.spec,
        )

    composed, explained, count, stored, none, spec = twins.run(work)
    expected = twins.search.compose(paths[1], TEXT, like=FIRST)
    np.testing.assert_allclose(composed.unit_vector, expected.unit_vector, atol=1e-5)
    assert composed.prompt == expected.prompt
    assert explained.lines()[0] == twins.search.explain(paths[1], TEXT, words=2).lines()[0]
    assert all(len(token.words) == 2 for token in explained.references[0])
    assert (count, [one.id for one in stored], none) == (12, [FIRST], [])
    assert spec == twins.search.gallery.spec


def test_facets(twins: Twins) -> None:
    async def work(twin: AsyncComposedSearch) -> Any:
        return await asyncio.gather(twin.facets("color"), return_exceptions=True)

    [refused] = twins.run(work)
    with pytest.raises(BadQuery, match="no index") as expected:
        twins.search.facets("color")
    assert isinstance(refused, BadQuery)
    assert str(refused) == str(expected.value)


@pytest.fixture(scope="module")
def embedded(
    composer: Composer,
    spec: GallerySpec,
    points: list[GalleryPoint],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[ComposedSearch]:
    gallery = EdgeGallery.create(tmp_path_factory.mktemp("embedded") / "gallery", spec)
    gallery.upsert(points)
    gallery.store_calibration(known(composer))
    with ComposedSearch(composer, gallery) as search:
        yield search


@given(
    steps=st.lists(
        st.tuples(st.integers(0, len(ASKED) - 1), st.sampled_from(["ask", "cancel", "yield"])),
        min_size=1,
        max_size=14,
    ),
    most=st.integers(1, 5),
)
@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_interleaving(
    embedded: ComposedSearch, paths: list[Path], steps: list[tuple[int, str]], most: int
) -> None:
    """Queries that come, go and are cancelled in any order: who stays gets his own answer."""

    async def main() -> None:
        twin = AsyncComposedSearch(embedded, max_batch=most, max_wait=0.001)
        asked = [with_paths(ASKED[row], paths) for row, _ in steps]
        tasks = []
        for query, (_, fate) in zip(asked, steps):
            task = asyncio.create_task(twin.query(**query))
            tasks.append(task)
            if fate != "ask":
                await asyncio.sleep(0.001 if fate == "yield" else 0)
            if fate == "cancel":
                task.cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        for query, (_, fate), hits in zip(asked, steps, results):
            if not isinstance(hits, asyncio.CancelledError):
                assert isinstance(hits, Hits), hits
                check_same(hits, embedded.query(**query))
            else:
                assert fate == "cancel"

    asyncio.run(main())


class Counting:
    """An observer that counts queries that passed the model."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.stages: set[str] = set()
        self.refusals = 0

    def batch_done(self, queries: int, waiting: int, seconds: float) -> None:
        self.sizes.append(queries)

    def stage_done(self, stage: str, seconds: float) -> None:
        self.stages.add(stage)

    def refused(self) -> None:
        self.refusals += 1


def test_overload_is_refused_and_what_is_inside_is_answered(embedded: ComposedSearch) -> None:
    seen = Counting()

    async def main() -> list[Any]:
        twin = AsyncComposedSearch(embedded, max_batch=4, max_queue=10, observer=seen)
        tasks = [twin.query(text=f"{number} dresses") for number in range(25)]
        first = await asyncio.gather(*tasks, return_exceptions=True)
        again = await asyncio.gather(*(twin.query(text=TEXT) for _ in range(10)))
        return [*first, *again]

    results = asyncio.run(main())
    refused = [one for one in results if isinstance(one, Overloaded)]
    assert len(refused) == seen.refusals == 15
    assert all(one.retry_after > 0 for one in refused)
    assert len([one for one in results if isinstance(one, Hits)]) == 20
    assert max(seen.sizes) <= 4
    assert seen.stages >= {"wait", "store"}


def test_a_large_query_many_lets_others_in_between(
    embedded: ComposedSearch, paths: list[Path]
) -> None:
    seen = Counting()

    async def main() -> tuple[list[Hits], Hits]:
        twin = AsyncComposedSearch(embedded, max_batch=4, max_queue=8, observer=seen)
        many = asyncio.create_task(
            twin.query_many([{"text": f"{number} dresses"} for number in range(40)])
        )
        await asyncio.sleep(0)
        one = await twin.query(paths[0], TEXT)
        assert not many.done()
        return await many, one

    many, one = asyncio.run(main())
    for number, hits in enumerate(many):
        check_same(hits, embedded.query(text=f"{number} dresses"))
    check_same(one, embedded.query(paths[0], TEXT))
    assert "read" in seen.stages


def test_cancelled_queries_are_not_computed(
    embedded: ComposedSearch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that wait while the model works on another."""
    seen, working, may_end = Counting(), threading.Event(), threading.Event()
    whole = QueryModel.run

    def held(model: QueryModel, tasks: Sequence[ModelTask]) -> list[list[Understood]]:
        working.set()
        assert may_end.wait(30)
        return whole(model, tasks)

    monkeypatch.setattr(QueryModel, "run", held)

    async def main() -> None:
        twin = AsyncComposedSearch(embedded, observer=seen)
        first = asyncio.create_task(twin.query(text=TEXT))
        await asyncio.to_thread(working.wait, 30)
        gone = [asyncio.create_task(twin.query(text=f"{number} dresses")) for number in range(9)]
        while twin.waiting < len(gone):
            await asyncio.sleep(0.01)
        for task in gone:
            task.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        may_end.set()
        await first
        await twin.query(text=TEXT)
        assert twin._loops.batches._shared.inside == 0
        twin._loops.batches.close()  # an observer is told of a batch after its answers are there

    asyncio.run(main())
    assert seen.sizes == [1, 1]


def test_no_thread_for_each_query(embedded: ComposedSearch, paths: list[Path]) -> None:
    async def main() -> int:
        twin = AsyncComposedSearch(embedded)
        before = threading.active_count()
        asked = [twin.query(paths[number % 11], TEXT) for number in range(100)]
        await asyncio.gather(*asked)
        return threading.active_count() - before

    assert asyncio.run(main()) <= 1 + 4 + 1  # the model, the readers, the store


def test_searches_of_one_moment_are_one_request(embedded: ComposedSearch) -> None:
    calls: list[int] = []

    class Counted(EdgeGallery):
        def search_many(self, queries: Any) -> Any:
            calls.append(len(queries))
            return super().search_many(queries)

    async def main() -> list[Hits]:
        kind = type(embedded.gallery)
        embedded.gallery.__class__ = Counted
        try:
            twin = AsyncComposedSearch(embedded)
            vectors = [twin.query(text=f"{number} dresses") for number in range(16)]
            return await asyncio.gather(*vectors)
        finally:
            embedded.gallery.__class__ = kind

    assert len(asyncio.run(main())) == 16
    assert sum(calls) == 16
    assert len(calls) < 12


def test_a_closed_search(
    composer: Composer, spec: GallerySpec, points: list[GalleryPoint], tmp_path: Path
) -> None:
    gallery = EdgeGallery.create(tmp_path / "gallery", spec)
    gallery.upsert(points)

    async def main() -> list[Any]:
        twin = AsyncComposedSearch(ComposedSearch(composer, gallery), max_batch=1)
        running = [asyncio.create_task(twin.query(text=f"{one} dresses")) for one in range(30)]
        await asyncio.sleep(0.01)
        await twin.close()
        await twin.close()
        results = await asyncio.gather(*running, return_exceptions=True)
        return [*results, *await asyncio.gather(twin.query(text=TEXT), return_exceptions=True)]

    *results, after = asyncio.run(main())
    for one in results:
        assert isinstance(one, (Hits, GalleryUnavailable)), one
    assert isinstance(after, GalleryUnavailable)
    assert "is closed" in str(after)


def test_a_client_of_the_user_stays_open(
    composer: Composer, spec: GallerySpec, points: list[GalleryPoint], inverter: str
) -> None:
    async def main() -> int:
        theirs = await filled(spec, points, known(composer))
        opened = AsyncComposedSearch.connect(theirs, "shop", inverter=inverter, device="cpu")
        async with await opened as twin:
            assert len(await twin.query(text=TEXT)) == 10
            with pytest.raises(FtiError, match="await"):
                twin.search.gallery.count()
        return (await theirs.count("shop")).count

    assert asyncio.run(main()) == 12


def test_one_search_in_two_loops(embedded: ComposedSearch) -> None:
    twin = AsyncComposedSearch(embedded)
    for _ in range(2):
        check_same(asyncio.run(twin.query(text=TEXT)), embedded.query(text=TEXT))
