"""One behavior of all galleries: embedded, qdrant-client's local mode, a server."""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from fti_qdrant.errors import (
    BadManifest,
    BadQuery,
    GalleryNotFound,
    GalleryUnavailable,
    ModelMismatch,
    UnknownImageId,
)
from fti_qdrant.filters.grammar import as_filter
from fti_qdrant.gallery import Gallery, GalleryPoint, GallerySpec, VectorQuery, point_id
from fti_qdrant.gallery.points import OURS
from fti_qdrant.gallery.pseudo_words import unstacked

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")

Points = list[GalleryPoint]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


def brute_force(points: Points, vector: np.ndarray) -> list[tuple[str, float]]:
    """All images by falling cosine, equal ones by id."""
    scored = [(point.id, float(unit(point.vector) @ unit(vector))) for point in points]
    return sorted(scored, key=lambda pair: (-pair[1], pair[0]))


def same(hits: list[Any], expected: list[tuple[str, float]]) -> None:
    assert [hit.id for hit in hits] == [id for id, _ in expected]
    np.testing.assert_allclose(
        [hit.score for hit in hits], [score for _, score in expected], atol=1e-5
    )


@pytest.fixture
def filled(gallery: Gallery, points: Points) -> Gallery:
    gallery.upsert(points)
    return gallery


@pytest.fixture
def vectors(points: Points) -> np.ndarray:
    return np.random.default_rng(7).normal(size=(6, len(points[0].vector))).astype(np.float32)


def test_a_gallery_remembers_its_spec(store: Any, words_spec: GallerySpec) -> None:
    made = store.create(words_spec)
    assert made.spec == words_spec
    with store.reopen(made) as again:
        assert again.spec == words_spec
        assert again.count() == 0


def test_create_twice(store: Any, spec: GallerySpec) -> None:
    made = store.create(spec)
    if store.kind == "edge":
        made.close()
    with pytest.raises(GalleryUnavailable, match=r"already|exists"):
        store.create(spec)
    made.close()


def test_open_what_is_not_there(store: Any) -> None:
    with pytest.raises(GalleryNotFound, match="fti-ingest"):
        store.open()


def test_points_are_there_after_reopening(store: Any, spec: GallerySpec, points: Points) -> None:
    made = store.create(spec)
    made.upsert(points)
    with store.reopen(made) as again:
        assert again.count() == len(points)
        assert again.retrieve([points[7].id])[0].payload == points[7].payload


def test_search_against_brute_force(filled: Gallery, points: Points, vectors: np.ndarray) -> None:
    for vector in vectors:
        hits = filled.search(VectorQuery(vector, limit=12, exact=True))
        same(hits, brute_force(points, vector)[:12])
    payloads = {point.id: point.payload for point in points}
    assert all(hit.payload == payloads[hit.id] for hit in hits)
    assert all(hit.vector is None for hit in hits)


def test_search_many_equals_one_by_one(
    filled: Gallery, points: Points, vectors: np.ndarray
) -> None:
    cheap = as_filter({"price": {"lt": 30}})
    queries = [
        VectorQuery(vectors[0], limit=3),
        VectorQuery(vectors[1], cheap, limit=5, with_vectors=True),
        VectorQuery(vectors[2], limit=50, score_threshold=0.2),
        VectorQuery(vectors[3] * 1000, limit=1, exact=True),
    ]
    together = filled.search_many(queries)
    for query, hits in zip(queries, together):
        same(filled.search(query), [(hit.id, hit.score) for hit in hits])
    assert [len(hits) for hits in together[:2]] == [3, 5]
    assert filled.search_many([]) == []


def test_limit_above_the_number_of_images(filled: Gallery, points: Points) -> None:
    assert len(filled.search(VectorQuery(points[0].vector, limit=10_000))) == len(points)


def test_equal_scores_in_order_of_id(gallery: Gallery, points: Points) -> None:
    vector = points[0].vector
    gallery.upsert([replace(point, vector=vector) for point in points[:20]])
    hits = gallery.search(VectorQuery(vector, limit=20))
    assert len({hit.score for hit in hits}) == 1
    assert [hit.id for hit in hits] == sorted(point.id for point in points[:20])


def test_score_threshold(filled: Gallery, points: Points, vectors: np.ndarray) -> None:
    expected = brute_force(points, vectors[0])
    between = (expected[9][1] + expected[10][1]) / 2
    hits = filled.search(VectorQuery(vectors[0], limit=50, score_threshold=between))
    same(hits, expected[:10])
    assert filled.search(VectorQuery(vectors[0], score_threshold=1.01)) == []


def test_a_hit_equal_to_the_threshold_is_kept(filled: Gallery, vectors: np.ndarray) -> None:
    for vector in vectors[:3]:
        hits = filled.search(VectorQuery(vector, limit=50))
        for rank in (0, 7, 30):
            least = hits[rank].score
            kept = filled.search(VectorQuery(vector, limit=50, score_threshold=least))
            assert [hit.id for hit in kept] == [hit.id for hit in hits[: rank + 1]]
            fewer = filled.search(VectorQuery(vector, limit=50, score_threshold=least + 1e-6))
            assert len(fewer) == rank


def test_a_sample_of_what_passes(filled: Gallery, points: Points) -> None:
    expected = [point.payload for point in sorted(points, key=lambda point: point.id)]
    assert filled.sample(most=5) == expected[:5]
    assert filled.sample() == expected
    new = as_filter({"new": True})
    assert filled.sample(new, 3) == [one for one in expected if one["new"]][:3]
    assert filled.sample(as_filter({"brand": "Nobody"})) == []


def test_vectors_come_back_normalized(filled: Gallery, points: Points) -> None:
    by_id = {point.id: unit(point.vector) for point in points}
    hits = filled.search(VectorQuery(points[3].vector, limit=5, with_vectors=True))
    for one in (*hits, *filled.retrieve(list(by_id))):
        assert one.vector is not None
        assert one.vector.dtype == np.float32
        np.testing.assert_allclose(one.vector, by_id[one.id], atol=1e-6)


FILTERS: list[tuple[dict[str, Any], Callable[[dict[str, Any]], bool]]] = [
    ({"brand": "Acme"}, lambda p: p["brand"] == "Acme"),
    ({"brand": ["Acme", "Borg"], "new": True}, lambda p: p["brand"] != "Crux" and p["new"]),
    ({"price": {"gte": 10, "lt": 40.5}}, lambda p: 10 <= p["price"] < 40.5),
    ({"price": 15}, lambda p: p["price"] == 15),
    ({"stock": 3.0}, lambda p: p["stock"] == 3),
    ({"stock": {"in": [1, 5]}}, lambda p: p["stock"] in (1, 5)),
    ({"tags": "b"}, lambda p: "b" in p["tags"]),
    ({"tags": None}, lambda p: not p["tags"]),
    ({"size.width": {"gt": 44}}, lambda p: p["size"]["width"] > 44),
    ({"size.height": {"exists": False}, "stock": 2}, lambda p: p["stock"] == 2),
    ({"since": {"lte": "2026-01-05"}}, lambda p: p["since"] <= "2026-01-05"),
    ({"not": {"brand": "Acme", "new": True}}, lambda p: not (p["brand"] == "Acme" and p["new"])),
    ({"or": [{"stock": 0}, {"price": {"gt": 70}}]}, lambda p: p["stock"] == 0 or p["price"] > 70),
    ({"_fti.sha256": f"{4:064x}"}, lambda p: p["_fti"]["uri"] == "shop/4.jpg"),
]


@pytest.mark.parametrize(("spec_", "holds"), FILTERS, ids=[str(spec) for spec, _ in FILTERS])
def test_filters_in_search_and_count(
    filled: Gallery, points: Points, spec_: dict[str, Any], holds: Callable[[Any], bool]
) -> None:
    kept = [point for point in points if holds(point.payload)]
    assert 0 < len(kept) < len(points)
    filter = as_filter(spec_)
    assert filled.count(filter) == len(kept)
    vector = points[0].vector
    same(filled.search(VectorQuery(vector, filter, limit=50)), brute_force(kept, vector))


def test_upsert_again_replaces_the_whole_point(filled: Gallery, points: Points) -> None:
    other = replace(points[0], vector=points[1].vector, payload={"color": "red"})
    filled.upsert([other])
    assert filled.count() == len(points)
    stored = filled.retrieve([other.id])[0]
    assert stored.payload == {"color": "red"}
    np.testing.assert_allclose(stored.vector, unit(points[1].vector), atol=1e-6)


def test_upsert_of_nothing(gallery: Gallery) -> None:
    gallery.upsert([])
    assert gallery.count() == 0


def test_more_points_than_one_request_takes(gallery: Gallery, points: Points) -> None:
    many = [replace(points[n % 50], id=point_id(f"many-{n}")) for n in range(150)]
    gallery.upsert(many)
    assert gallery.count() == 150


def test_retrieve_in_the_order_asked_for(filled: Gallery, points: Points) -> None:
    wanted = [points[n].id for n in (9, 2, 30)]
    unknown = str(uuid.uuid4())
    found = filled.retrieve([wanted[0], unknown, wanted[1], wanted[2].upper(), wanted[0]])
    assert [one.id for one in found] == [*wanted, wanted[0]]
    assert [one.payload["_fti"]["uri"] for one in found[:2]] == ["shop/9.jpg", "shop/2.jpg"]
    assert [one.id for one in filled.retrieve([uuid.UUID(wanted[1])])] == [wanted[1]]
    assert filled.retrieve([unknown]) == filled.retrieve([]) == []


@pytest.mark.parametrize("page", [1, 7, 1000])
def test_scroll_in_order_of_id(filled: Gallery, points: Points, page: int) -> None:
    expected = sorted((point.id, point.payload["_fti"]["uri"]) for point in points)
    assert [(id, payload["_fti"]["uri"]) for id, payload in filled.scroll(page)] == expected


def test_has_field(filled: Gallery) -> None:
    fields = ["brand", "tags", "size.width", "_fti.sha256", "size.height", "color", "size.depth"]
    assert [filled.has_field(field) for field in fields] == [True] * 4 + [False] * 3
    filled.upsert([GalleryPoint(point_id("new"), np.ones(8, np.float32), {"color": "red"})])
    assert filled.has_field("color")


def test_delete(filled: Gallery, points: Points) -> None:
    filled.delete([points[0].id, uuid.UUID(points[1].id), str(uuid.uuid4())])
    filled.delete([])
    assert filled.count() == len(points) - 2
    assert filled.retrieve([points[0].id, points[1].id]) == []
    vector = points[0].vector
    same(filled.search(VectorQuery(vector, limit=50)), brute_force(points[2:], vector))


def test_pseudo_words_come_back_as_they_were(
    store: Any, words_spec: GallerySpec, points: Points
) -> None:
    assert words_spec.words is not None
    shape = (1 + words_spec.words.topk, words_spec.words.token_dim)
    rng = np.random.default_rng(1)
    words = {point.id: (rng.normal(size=shape) * 3).astype(np.float16) for point in points[:9]}
    made = store.create(words_spec)
    made.upsert(
        [
            replace(point, words=words[point.id], payload={OURS: {"r": number % 3 + 1}})
            for number, point in enumerate(points[:9])
        ]
    )
    with store.reopen(made) as again:
        for number, image in enumerate(again.retrieve([point.id for point in points[:9]])):
            assert image.words is not None
            np.testing.assert_array_equal(image.words, words[image.id].astype(np.float32))
            assert image.payload[OURS]["r"] == number % 3 + 1
            back = unstacked(image.words, image.payload[OURS]["r"])
            np.testing.assert_array_equal(back.subject[0], words[image.id][0])
            np.testing.assert_array_equal(back.attributes[0], words[image.id][1:])
        vector = points[0].vector
        same(again.search(VectorQuery(vector, limit=9)), brute_force(points[:9], vector))


def bad_points() -> dict[str, tuple[type[Exception], dict[str, Any]]]:
    good = np.ones(8, np.float32)
    nan = good.copy()
    nan[3] = np.nan
    return {
        "NaN": (ModelMismatch, {"vector": nan}),
        "infinite": (ModelMismatch, {"vector": good * np.inf}),
        "zero": (ModelMismatch, {"vector": good * 0}),
        "short": (ModelMismatch, {"vector": good[:7]}),
        "two rows": (ModelMismatch, {"vector": np.ones((2, 8), np.float32)}),
        "words where none belong": (ModelMismatch, {"words": np.ones((4, 6), np.float16)}),
        "bytes in the payload": (BadManifest, {"payload": {"a": b"x"}}),
        "NaN in the payload": (BadManifest, {"payload": {"a": [float("nan")]}}),
        "numpy in the payload": (BadManifest, {"payload": {"a": np.float32(1)}}),
        "a number as a name": (BadManifest, {"payload": {1: "a"}}),
        "half a character": (BadManifest, {"payload": {"a": "\ud800"}}),
        "no UUID": (UnknownImageId, {"id": "shop/1.jpg"}),
    }


@pytest.mark.parametrize("name", bad_points())
def test_of_a_batch_with_a_bad_point_nothing_is_stored(
    gallery: Gallery, points: Points, name: str
) -> None:
    error, change = bad_points()[name]
    bad = replace(points[1], **change)
    with pytest.raises(error, match="image"):
        gallery.upsert([points[0], bad, points[2]])
    assert gallery.count() == 0
    gallery.upsert([points[0]])
    assert gallery.count() == 1


@pytest.mark.parametrize("words", [None, (4, 5), (3, 6), (6,), "NaN"])
def test_pseudo_words_must_fit(
    store: Any, words_spec: GallerySpec, points: Points, words: Any
) -> None:
    if words == "NaN":
        words = np.full((4, 6), np.nan, np.float16)
    elif words:
        words = np.ones(words, np.float16)
    with store.create(words_spec) as made:
        fits = replace(points[1], words=np.ones((4, 6), np.float16))
        with pytest.raises(ModelMismatch, match="pseudo-words"):
            made.upsert([fits, replace(points[0], words=words)])
        assert made.count() == 0


def test_a_small_gallery_needs_no_index_and_answers_alike(
    filled: Gallery, points: Points, vectors: np.ndarray
) -> None:
    before = filled.search(VectorQuery(vectors[0], limit=5, exact=True))
    assert filled.build_index() in (0, len(points))  # local mode counts every vector as indexed
    for exact in (True, False):
        after = filled.search(VectorQuery(vectors[0], limit=5, exact=exact))
        assert [hit.id for hit in after] == [hit.id for hit in before]


def test_images_drawn_at_random(filled: Gallery, points: Points) -> None:
    drawn = filled.random_vectors(20)
    stored = {image.id: image.vector for image in filled.retrieve(list(drawn))}
    assert len(drawn) == len(stored) == 20
    for id, vector in drawn.items():
        np.testing.assert_allclose(vector, stored[id], atol=1e-6)
    everything = filled.random_vectors(999)
    assert set(everything) == {point.id for point in points}
    assert list(everything) != list(filled.random_vectors(999)), "in another order each time"
    assert filled.storage().quantization == "none"


def test_state_counts_the_images(filled: Gallery, points: Points) -> None:
    state = filled.state()
    assert state.points == len(points)
    assert state.segments >= 1
    assert "idle" in state.optimizer


@pytest.mark.parametrize("limit", [0, -1])
def test_limit_below_1(filled: Gallery, points: Points, limit: int) -> None:
    with pytest.raises(BadQuery, match=f"at least 1, got {limit}"):
        filled.search(VectorQuery(points[0].vector, limit=limit))


@pytest.mark.parametrize(
    "vector", [np.zeros(8), np.full(8, np.nan), np.ones(9), np.ones((1, 8))], ids=str
)
def test_query_vectors_must_fit(filled: Gallery, vector: np.ndarray) -> None:
    with pytest.raises(ModelMismatch, match="query"):
        filled.search(VectorQuery(vector))


@pytest.mark.parametrize("id", ["", "1.jpg", "A" * 36])
def test_ids_must_be_uuids(filled: Gallery, id: str) -> None:
    for call in (filled.retrieve, filled.delete):
        with pytest.raises(UnknownImageId, match="is not an image id"):
            call([id])


def every_call(gallery: Gallery, points: Points) -> list[Callable[[], Any]]:
    return [
        gallery.check_open,
        lambda: gallery.upsert(points[:1]),
        lambda: gallery.search(VectorQuery(points[0].vector)),
        lambda: gallery.search_many([VectorQuery(points[0].vector)]),
        lambda: gallery.retrieve([points[0].id]),
        gallery.count,
        gallery.state,
        gallery.sample,
        lambda: list(gallery.scroll()),
        lambda: gallery.has_field("brand"),
        lambda: gallery.delete([points[0].id]),
    ]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_process_is_refused_at_once(filled: Gallery, points: Points) -> None:
    calls = every_call(filled, points)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(20)
        refused = 0
        for call in calls:
            try:
                call()
            except GalleryUnavailable as error:
                refused += "was opened before a fork; open it in each process" in str(error)
        filled.close()
        os.write(writer, f"{refused} of {len(calls)}".encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        assert pipe.read() == f"{len(calls)} of {len(calls)}"
    os.waitpid(child, 0)
    assert filled.count() == len(points), "the parent goes on"


def test_closed_gallery(filled: Gallery, points: Points) -> None:
    filled.close()
    filled.close()
    for call in every_call(filled, points):
        with pytest.raises(GalleryUnavailable, match="is closed"):
            call()
