"""Hits with a chance to be right: where a gallery is calibrated, and where it is not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from qdrant_client import QdrantClient

from fti_qdrant import AsyncComposedSearch, ComposedSearch, Composer, EdgeGallery, Query
from fti_qdrant.calibration import calibrate
from fti_qdrant.confidence import chances_of
from fti_qdrant.errors import BadCollection, BadQuery, CheckpointError
from fti_qdrant.gallery import GalleryPoint, GallerySpec, ServerGallery, point_id
from fti_qdrant.gallery.calibration import Calibration
from fti_qdrant.query import Hits
from tests.calibration.judged import CHANCES, calibration_for

pytestmark = pytest.mark.filterwarnings("ignore:Local mode performs exact")

TEXT = "in red"
FIRST = point_id("0.png")
KINDS = (
    Query(FIRST, TEXT, composer="pdv"),
    Query(FIRST, TEXT, composer="sum"),
    Query(text=TEXT, composer="text"),
)


@pytest.fixture(scope="module")
def calibration(composer: Composer) -> Calibration:
    return calibration_for(composer, *KINDS)


@pytest.fixture(scope="module")
def plain(
    tmp_path_factory: pytest.TempPathFactory,
    composer: Composer,
    spec: GallerySpec,
    points: list[GalleryPoint],
) -> Iterator[ComposedSearch]:
    """A search without a calibration."""
    with EdgeGallery.create(tmp_path_factory.mktemp("plain") / "gallery", spec) as gallery:
        gallery.upsert(points)
        yield ComposedSearch(composer, gallery)


@pytest.fixture(scope="module")
def known(plain: ComposedSearch, calibration: Calibration) -> ComposedSearch:
    """The same gallery with one."""
    return ComposedSearch(plain.composer, plain.gallery, calibration=calibration)


ASKED: list[dict[str, Any]] = [
    {"image": FIRST, "text": TEXT},
    {"image": FIRST, "text": TEXT, "limit": 3, "offset": 2},
    {"image": FIRST, "text": TEXT, "filter": {"color": "red"}, "with_vectors": True},
    {"image": FIRST, "text": TEXT, "group_by": "color", "group_size": 3},
    {"image": FIRST, "text": TEXT, "diversity": 0.4},
    {"image": FIRST, "text": TEXT, "order_by": "-price", "score_threshold": -1},
    {"image": FIRST, "text": TEXT, "composer": "sum"},
    {"text": TEXT},
]


@pytest.mark.parametrize("asked", ASKED)
def test_hits_have_the_chance_of_their_score_in_the_same_order(
    plain: ComposedSearch, known: ComposedSearch, asked: dict[str, Any]
) -> None:
    before, hits = plain.query(**asked), known.query(**asked)
    assert [(hit.id, hit.score, hit.group) for hit in hits] == [
        (hit.id, hit.score, hit.group) for hit in before
    ]
    assert hits
    assert [hit.confidence for hit in before] == [None] * len(hits)
    assert [hit.confidence for hit in hits] == CHANCES.at([hit.score for hit in hits]).tolist()
    assert all(hit.as_dict()["confidence"] == hit.confidence for hit in hits)
    assert all("confidence" not in hit.as_dict() for hit in before)


@pytest.mark.parametrize("least", [0, 0.01, 0.3, 0.6, 0.99, 1])
@pytest.mark.parametrize("asked", [ASKED[0], ASKED[2], ASKED[6], ASKED[7]])
def test_min_confidence_leaves_what_a_filter_of_the_hits_would(
    known: ComposedSearch, asked: dict[str, Any], least: float
) -> None:
    every = known.query(**asked, limit=20)
    kept = [hit.id for hit in every if hit.confidence is not None and hit.confidence >= least]
    assert [hit.id for hit in known.query(**asked, limit=20, min_confidence=least)] == kept
    [edge] = known.query(**asked, limit=1)
    assert edge.confidence is not None
    assert known.query(**asked, min_confidence=edge.confidence)[0].id == edge.id  # itself included


def test_min_confidence_with_pages_groups_order_and_a_threshold(known: ComposedSearch) -> None:
    every = known.query(FIRST, TEXT, limit=20)
    middle = every[5]
    assert middle.confidence is not None
    kept = list(every[:6])
    asked: dict[str, Any] = {"image": FIRST, "text": TEXT, "min_confidence": middle.confidence}
    page = known.query(**asked, limit=3, offset=4)
    assert [hit.id for hit in page] == [hit.id for hit in kept[4:]]
    ordered = known.query(**asked, order_by="price")
    assert [hit.payload["price"] for hit in ordered] == sorted(hit.payload["price"] for hit in kept)
    groups = known.query(**asked, group_by="color", group_size=9)
    assert {hit.id for hit in groups} == {hit.id for hit in kept}
    diverse = known.query(**asked, diversity=0.5)
    assert {hit.id for hit in diverse} == {hit.id for hit in kept}
    above = known.query(**asked, score_threshold=every[2].score)
    assert [hit.id for hit in above] == [hit.id for hit in kept[:3]]


@pytest.mark.parametrize("cutoff", [0.05, 0.5, 0.9, 1.0])
def test_a_cutoff_is_a_share_of_the_best_confidence(
    plain: ComposedSearch, known: ComposedSearch, cutoff: float
) -> None:
    every = known.query(FIRST, TEXT, limit=20)
    best = every[0].confidence or 0
    kept = [hit.id for hit in every if (hit.confidence or 0) >= cutoff * best]
    hits = known.query(FIRST, TEXT, limit=20, cutoff=cutoff)
    assert [hit.id for hit in hits] == kept
    assert hits.query.cutoff_by == "confidence"
    by_score = plain.query(FIRST, TEXT, limit=20, cutoff=cutoff)
    assert by_score.query.cutoff_by == "score"
    least = every[0].score - (1 - cutoff) * abs(every[0].score)
    assert [hit.id for hit in by_score] == [hit.id for hit in every if hit.score >= least - 1e-6]
    assert known.query(FIRST, TEXT).query.cutoff_by is None


OTHERS: list[tuple[dict[str, Any], str]] = [
    ({"image": FIRST, "text": TEXT, "composer": "fti"}, "calibrated composers are pdv, sum, text"),
    ({"image": FIRST, "text": TEXT, "text_weight": 0.31}, "text_weight=0.31"),
    ({"image": FIRST, "text": TEXT, "options": {"image_step": 2.0}}, "image_step=2.0"),
    ({"image": FIRST, "text": TEXT, "avoid": "dog"}, "'avoid'"),
    ({"image": FIRST, "text": TEXT, "weights": [1.0]}, "'weights'"),
    ({"image": FIRST, "text": TEXT, "like": point_id("3.png")}, "'like'"),
    ({"image": FIRST, "text": TEXT, "dislike": [point_id("4.png")]}, "'dislike'"),
    ({"image": [FIRST, point_id("5.png")], "text": TEXT}, "at most 1 reference images"),
    ({"image": FIRST}, "composers are pdv, sum, text"),
    ({"image": FIRST, "text": TEXT, "composer": "text"}, "another kind of query"),
]


@pytest.mark.parametrize(("asked", "why"), OTHERS)
def test_other_queries_have_no_confidence_and_no_wrong_one(
    plain: ComposedSearch, known: ComposedSearch, asked: dict[str, Any], why: str
) -> None:
    hits = known.query(**asked, cutoff=0.9)
    assert [hit.confidence for hit in hits] == [None] * len(hits)
    assert hits.query.cutoff_by == "score"
    assert [hit.id for hit in hits] == [hit.id for hit in plain.query(**asked, cutoff=0.9)]
    with pytest.raises(BadQuery, match=f"min_confidence 0.5 needs.*{why}.*fti-eval calibrate"):
        known.query(**asked, min_confidence=0.5)


@pytest.mark.parametrize("name", ["like", "dislike"])
def test_an_image_whose_number_is_0_is_liked_as_any_other(
    composer: Composer, calibration: Calibration, name: str
) -> None:
    query = Query(FIRST, TEXT, composer="pdv")
    assert chances_of(query, composer, calibration) == CHANCES
    assert chances_of(replace(query, **{name: 0}), composer, calibration) is None
    assert chances_of(replace(query, **{name: []}), composer, calibration) == CHANCES


def test_options_that_are_the_same_in_other_words(known: ComposedSearch) -> None:
    weight = known.composer.options("pdv").model_dump()["text_weight"]
    hits = known.query(FIRST, TEXT, composer="pdv", text_weight=weight)
    assert hits[0].confidence is not None


def test_a_gallery_of_another_model_is_not_told_wrongly(
    plain: ComposedSearch,
    calibration: Calibration,
    composer: Composer,
    save_other_model: Callable[[], str],
) -> None:
    """Nor one whose inverter is another: sum needs none, pdv does."""
    other = Composer.load(save_other_model(), device="cpu")
    made = calibration_for(other, Query(FIRST, TEXT, composer="sum"))
    hits = ComposedSearch(composer, plain.gallery, calibration=made).query(
        FIRST, TEXT, composer="sum"
    )
    assert hits[0].confidence is None
    without = ComposedSearch(Composer(composer.backbone), plain.gallery, calibration=calibration)
    assert without.query(FIRST, TEXT, composer="sum")[0].confidence is not None


@pytest.mark.parametrize("wrong", [-0.1, 1.1, "0.5", True, float("nan")])
def test_bad_chances(known: ComposedSearch, wrong: Any) -> None:
    with pytest.raises(BadQuery, match="min_confidence must be a chance from 0 to 1, got"):
        known.query(text=TEXT, min_confidence=wrong)


def test_without_a_calibration(plain: ComposedSearch) -> None:
    with pytest.raises(BadQuery, match="the gallery has no calibration"):
        plain.query(FIRST, TEXT, min_confidence=0.5)
    assert plain.query(FIRST, TEXT).query.warnings == ()


def test_a_calibration_that_cannot_be_read_is_told_with_every_answer(
    plain: ComposedSearch,
) -> None:
    broken = Calibration.stored("{", "gallery 'x'")
    search = ComposedSearch(plain.composer, plain.gallery, calibration=broken)
    hits = search.query(FIRST, TEXT)
    assert hits[0].confidence is None
    assert any("calibration of gallery 'x' cannot be read" in one for one in hits.query.warnings)
    with pytest.raises(BadQuery, match="cannot be read"):
        search.query(FIRST, TEXT, min_confidence=0.5)


def test_it_is_shown(known: ComposedSearch) -> None:
    hits = known.query(FIRST, TEXT, limit=2)
    assert f"{hits[0].confidence:4.0%}" in repr(hits)
    frame = hits.to_pandas()
    assert frame["confidence"].tolist() == [hit.confidence for hit in hits]
    assert "%" in hits._repr_html_()
    assert "confidence" not in Hits([], hits.query).to_pandas()


def test_on_an_event_loop(known: ComposedSearch) -> None:
    async def work() -> Hits:
        async with AsyncComposedSearch(known) as search:
            with pytest.raises(BadQuery, match="min_confidence"):
                await search.query(FIRST, TEXT, avoid="dog", min_confidence=0.5)
            return await search.query(FIRST, TEXT, min_confidence=0.01, cutoff=0.5)

    expected = known.query(FIRST, TEXT, min_confidence=0.01, cutoff=0.5)
    hits = asyncio.run(_without_closing(known, work))
    assert [(hit.id, hit.confidence) for hit in hits] == [
        (hit.id, pytest.approx(hit.confidence, abs=1e-4)) for hit in expected
    ]
    assert hits.query.cutoff_by == "confidence"


async def _without_closing(search: ComposedSearch, work: Callable[[], Any]) -> Hits:
    """Runs ``work``; the gallery, which other tests use too, stays open."""
    close = search.gallery.close
    search.gallery.close = lambda: None  # type: ignore[method-assign]
    try:
        return await work()
    finally:
        search.gallery.close = close  # type: ignore[method-assign]


def test_attached_collections_take_it_from_a_file(
    memory: ServerGallery,
    plain_points: list[GalleryPoint],
    composer: Composer,
    model: str,
    inverter: str,
    tmp_path: Path,
) -> None:
    memory.upsert(plain_points)
    client: QdrantClient = memory.client
    calibration_for(composer, Query(FIRST, TEXT, composer="sum")).write(tmp_path / "shop.json")
    options: dict[str, Any] = {"model": model, "inverter": inverter, "check": 0, "device": "cpu"}
    options["preprocess"] = "target-pad"
    with pytest.raises(CheckpointError, match="cannot be read"):
        ComposedSearch.attach(client, "shop", calibration=tmp_path / "none.json", **options)
    search = ComposedSearch.attach(client, "shop", calibration=tmp_path / "shop.json", **options)
    assert search.query(FIRST, TEXT, composer="sum")[0].confidence is not None
    assert search.query(FIRST, TEXT, composer="slerp")[0].confidence is None
    memory.store_calibration(calibration_for(composer, Query(FIRST, TEXT, composer="slerp")))
    stored = ComposedSearch.attach(client, "shop", **options)
    assert stored.query(FIRST, TEXT, composer="sum")[0].confidence is None
    assert stored.query(FIRST, TEXT, composer="slerp")[0].confidence is not None
    with pytest.raises(BadCollection, match="store=False"):
        calibrate(search, [{"image": FIRST, "text": TEXT, "right": [point_id("3.png")]}])
