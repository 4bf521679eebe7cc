"""What ``ComposedSearch`` answers.

What a random model finds means nothing; what is checked is that every way to ask for the same
thing finds the same, and that the numbers are those of the composer and of a brute force.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from qdrant_client import models

from fti_qdrant import ComposedSearch, Composer, EdgeGallery, Query, ServerGallery
from fti_qdrant.gallery import GalleryPoint, GallerySpec, point_id
from fti_qdrant.images import open_image
from fti_qdrant.model.closed_vocabulary import ClosedVocabulary
from fti_qdrant.query import Hits

TEXT = "in red, with long sleeves"


def scores(hits: Hits) -> dict[str, float]:
    return {hit.id: hit.score for hit in hits}


def same(first: Hits, second: Hits, tolerance: float = 1e-5) -> None:
    assert [hit.id for hit in first] == [hit.id for hit in second]
    assert scores(first) == pytest.approx(scores(second), abs=tolerance)


def cosines(vector: torch.Tensor, points: list[GalleryPoint]) -> dict[str, float]:
    query = vector.numpy() / np.linalg.norm(vector.numpy())
    return {
        point.id: float(point.vector @ query / np.linalg.norm(point.vector)) for point in points
    }


@pytest.mark.parametrize("method", ["fti", "subject", "sum", "slerp"])
def test_scores_are_the_composers(
    search: ComposedSearch, points: list[GalleryPoint], paths: list[Path], method: str
) -> None:
    hits = search.query(paths[2], TEXT, composer=method, limit=12, exclude_reference=False)
    vector = search.composer.compose([open_image(paths[2]).image], [TEXT], method)[0]
    assert scores(hits) == pytest.approx(cosines(vector, points), abs=1e-5)
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert hits.query.composer == method


def test_text_alone(search: ComposedSearch, points: list[GalleryPoint]) -> None:
    hits = search.query(text=f"  {TEXT}\n", limit=12)
    vector = search.composer.backbone.texts([TEXT])[0]
    assert scores(hits) == pytest.approx(cosines(vector, points), abs=1e-5)
    assert hits.query.composer == "text"


@pytest.mark.parametrize("text", [None, "", "  "])
def test_image_alone(
    search: ComposedSearch, points: list[GalleryPoint], paths: list[Path], text: str | None
) -> None:
    hits = search.query(paths[2], text, limit=12, exclude_reference=False)
    assert (hits[0].id, hits.query.composer) == (points[2].id, "image")
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    expected = cosines(torch.from_numpy(points[2].vector), points)
    assert scores(hits) == pytest.approx(expected, abs=1e-5)


def test_a_list_of_pictures_is_one_query(
    search: ComposedSearch, points: list[GalleryPoint], paths: list[Path]
) -> None:
    composer = search.composer
    features = composer.backbone.image_features([open_image(path).image for path in paths[2:4]])
    composed = composer.compose_references(composer.references(features, [2]), [TEXT])
    hits = search.query(paths[2:4], TEXT, limit=12, exclude_reference=False)
    assert scores(hits) == pytest.approx(cosines(composed.vectors[0], points), abs=1e-5)
    assert points[2].id not in scores(search.query(paths[2:4], TEXT, limit=12))
    assert points[3].id not in scores(search.query(paths[2:4], TEXT, limit=12))
    same(search.query([paths[2]], TEXT), search.query(paths[2], TEXT))


def test_every_source_finds_the_same(search: ComposedSearch, paths: list[Path]) -> None:
    by_path = search.query(paths[3], TEXT, exclude_reference=False)
    picture = Image.open(paths[3])
    with paths[3].open("rb") as file:
        sources = [str(paths[3]), paths[3].read_bytes(), file, picture, np.array(picture)]
        for source in sources:
            same(search.query(source, TEXT, exclude_reference=False), by_path)


def test_a_stored_id_needs_no_picture(
    tmp_path: Path,
    composer: Composer,
    spec: GallerySpec,
    embed: Callable[[list[Path]], list[GalleryPoint]],
    paths: list[Path],
) -> None:
    copies = [tmp_path / path.name for path in paths[:6]]
    for path, copy in zip(paths, copies):
        copy.write_bytes(path.read_bytes())
    with EdgeGallery.create(tmp_path / "gallery", spec) as gallery:
        gallery.upsert(embed(copies))
        search = ComposedSearch(composer, gallery)
        by_picture = [search.query(copy, TEXT) for copy in copies]
        for copy in copies:
            copy.unlink()
        for copy, before in zip(copies, by_picture):
            same(search.query(point_id(copy.name), TEXT), before, 2e-3)  # float16
            same(search.query(uuid.UUID(point_id(copy.name)), TEXT), before, 2e-3)
        without_text = search.query(point_id(copies[0].name))
        assert without_text.query.composer == "image"


def test_stored_and_fresh_references_mix(search: ComposedSearch, paths: list[Path]) -> None:
    fresh = search.query(paths[2:4], TEXT)
    same(search.query([point_id("2.png"), paths[3]], TEXT), fresh, 2e-3)
    same(search.query([paths[2], point_id("3.png").upper()], TEXT), fresh, 2e-3)


def test_the_reference_is_left_out(search: ComposedSearch, paths: list[Path]) -> None:
    """By the content of its file: the last picture is the first under another name."""
    twins = {point_id("0.png"), point_id("11.png")}
    for reference in (paths[0], paths[11], paths[0].read_bytes()):
        assert not twins & scores(search.query(reference, TEXT, limit=12)).keys()
    kept = search.query(paths[0], limit=12, exclude_reference=False)
    assert {hit.id for hit in kept[:2]} == twins
    by_id = search.query(point_id("0.png"), TEXT, limit=12)
    assert point_id("0.png") not in scores(by_id)
    assert len(by_id) == 11
    assert len(search.query(point_id("0.png"), TEXT, limit=12, exclude_reference=False)) == 12


def test_filters(search: ComposedSearch, paths: list[Path]) -> None:
    everything = search.query(paths[2], TEXT, limit=12)
    wanted = {"price": {"gte": 3, "lt": 9}, "color": "blue"}
    hits = search.query(paths[2], TEXT, filter=wanted, limit=12)
    assert [hit.id for hit in hits] == [
        hit.id for hit in everything if hit.payload["name"] in ("3", "5", "7")
    ]
    ready = models.Filter(must=[models.FieldCondition(key="shelf.row", range=models.Range(gt=8))])
    assert {hit.payload["name"] for hit in search.query(text=TEXT, filter=ready)} == {
        *("9", "10", "11")
    }
    assert search.query(text=TEXT, filter={"color": "green"}) == []


def test_score_threshold(search: ComposedSearch) -> None:
    hits = search.query(text=TEXT, limit=12)
    middle = (hits[4].score + hits[5].score) / 2
    same(search.query(text=TEXT, limit=12, score_threshold=middle), Hits(hits[:5], hits.query))
    assert search.query(text=TEXT, score_threshold=1) == []


def test_with_vectors(search: ComposedSearch, points: list[GalleryPoint]) -> None:
    stored = {point.id: point.vector / np.linalg.norm(point.vector) for point in points}
    for hit in search.query(text=TEXT, limit=3, with_vectors=True):
        assert hit.vector is not None
        np.testing.assert_allclose(hit.vector, stored[hit.id], atol=1e-6)
    assert search.query(text=TEXT, limit=1)[0].vector is None


def test_hits_carry_the_payload_and_the_place(search: ComposedSearch, paths: list[Path]) -> None:
    hit = search.query(paths[4], exclude_reference=False, limit=1)[0]
    assert hit.uri == str(paths[4])
    assert hit.payload == {"name": "4", "price": 4.0, "color": "red", "shelf": {"row": 4}}


def test_query_many_equals_one_by_one(search: ComposedSearch, paths: list[Path]) -> None:
    asked: list[Query | dict[str, Any]] = [
        Query(paths[1], TEXT),
        {"image": paths[2], "text": "as a cat", "composer": "sum", "limit": 3},
        Query(text="a dog"),
        Query(paths[1:5], "all of them", filter={"color": "red"}),
        Query(paths[6]),
        Query(point_id("7.png"), TEXT, exclude_reference=False),
        Query([paths[8], point_id("9.png")], "both", composer="subject", limit=12),
        Query(paths[3], "a long " + "very " * 100 + "text", score_threshold=-0.5),
    ]
    together = search.query_many(asked)
    for one, hits in zip(asked, together):
        alone = search.query_many([one])[0]
        same(alone, hits)
        assert alone.query == hits.query
    assert search.query_many([]) == []
    methods = [hits.query.composer for hits in together]
    assert methods == ["pdv", "sum", "text", "pdv", "image", "pdv", "subject", "pdv"]


def test_a_text_that_is_too_long_is_told(search: ComposedSearch, paths: list[Path]) -> None:
    long = "very " * 100 + "red"
    for hits in (search.query(paths[1], long), search.query(text=long)):
        assert len(hits.query.warnings) == 1
        assert "longer than the model's context" in hits.query.warnings[0]
    assert search.query(paths[1], TEXT).query.warnings == ()


def test_threads_get_the_answers_of_one(search: ComposedSearch, paths: list[Path]) -> None:
    asked = [Query(path, TEXT, limit=5) for path in paths[:8]]
    serial = [search.query_many([one])[0] for one in asked]
    answers: dict[int, list[Hits]] = {}

    def work(number: int) -> None:
        answers[number] = [search.query_many([asked[(number + turn) % 8]])[0] for turn in range(4)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(8):
        for turn in range(4):
            same(answers[number][turn], serial[(number + turn) % 8])


def test_a_server_answers_alike(
    search: ComposedSearch,
    memory: ServerGallery,
    plain_points: list[GalleryPoint],
    paths: list[Path],
) -> None:
    memory.upsert(plain_points)
    served = ComposedSearch(search.composer, memory)
    for arguments in (
        {"image": paths[1], "text": TEXT},
        {"text": TEXT, "filter": {"price": {"lt": 5}}},
        {"image": plain_points[3].id, "text": TEXT, "composer": "sum"},
    ):
        same(served.query(**arguments), search.query(**arguments))


def test_words_that_the_model_has_not_learned_are_told(
    search: ComposedSearch, paths: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    learned = ClosedVocabulary(frozenset(["in", "red"]))
    monkeypatch.setattr(search.composer.backbone, "learned", learned)
    for hits in (search.query(paths[1], "maybe in red?"), search.query(text="maybe in red?")):
        assert hits.query.warnings == (
            "the model has not learned these words, and read the text without them: 'maybe', '?'",
        )
    assert search.query(paths[1], "in red").query.warnings == ()
    unused = search.query(paths[1], "maybe in red", composer="image").query.warnings
    assert unused == ("composer 'image' does not use the text",)
