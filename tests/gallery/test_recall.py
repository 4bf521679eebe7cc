"""Recall against a slow count: an approximate search that loses hits on purpose."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import QdrantClient

from fti_qdrant.errors import BadQuery
from fti_qdrant.gallery import (
    EdgeGallery,
    GalleryPoint,
    GallerySpec,
    ScoredPoint,
    ServerGallery,
    VectorQuery,
    point_id,
)
from fti_qdrant.gallery.collection_config import OVERSAMPLING, CollectionConfig
from fti_qdrant.gallery.recall import Recall, measure_recall, recall_advice, wilson


class Lossy(ServerGallery):
    """Approximate searches lose each hit with some probability; exact ones lose none."""

    def __init__(self, gallery: ServerGallery, loss: float):
        super().__init__(gallery.client, gallery.collection, gallery.spec, gallery.name)
        self.loss = loss
        self.drawn: list[str] = []
        self.answers: list[list[ScoredPoint]] = []
        self.chance = np.random.default_rng(0)

    def random_vectors(self, count: int) -> dict[str, np.ndarray]:
        found = super().random_vectors(count)
        self.drawn = list(found)
        return found

    def search_many(self, queries: Sequence[VectorQuery]) -> list[list[ScoredPoint]]:
        answers = super().search_many(queries)
        for row, query in enumerate(queries):
            if not query.exact:
                kept = self.chance.random(len(answers[row])) >= self.loss
                answers[row] = [hit for hit, keep in zip(answers[row], kept) if keep]
                self.answers.append(answers[row])
        return answers


@pytest.fixture(scope="module")
def vectors() -> dict[str, np.ndarray]:
    """Of which every fifth occurs twice: the two have one score for every query."""
    drawn = np.random.default_rng(1).normal(size=(120, 8)).astype(np.float32)
    drawn[1::5] = drawn[::5][: len(drawn[1::5])]
    unit = drawn / np.linalg.norm(drawn, axis=1, keepdims=True)
    return {point_id(str(number)): row for number, row in enumerate(unit)}


@pytest.fixture
def gallery(spec: GallerySpec, vectors: dict[str, np.ndarray]) -> Iterator[ServerGallery]:
    bare = spec.model_copy(update={"indexes": {}})
    with ServerGallery.create(QdrantClient(":memory:"), "c", bare) as made:
        made.upsert([GalleryPoint(id, vector, {}) for id, vector in vectors.items()])
        yield made


def slow_share(own: str, hits: list[ScoredPoint], vectors: dict[str, np.ndarray], k: int) -> float:
    """Of an image's k true neighbors, by comparing with every other one: how many are found."""
    cosines = sorted(
        (float(vector @ vectors[own]) for id, vector in vectors.items() if id != own), reverse=True
    )
    found = [hit for hit in hits if hit.id != own][:k]
    return min(sum(hit.score >= cosines[k - 1] - 1e-5 for hit in found) / k, 1.0)


@pytest.mark.filterwarnings("ignore:Local mode")
@pytest.mark.parametrize("loss", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("neighbors", [1, 10])
def test_the_figure_is_that_of_a_slow_count(
    gallery: ServerGallery, vectors: dict[str, np.ndarray], loss: float, neighbors: int
) -> None:
    lossy = Lossy(gallery, loss)
    recall = measure_recall(lossy, 60, neighbors)
    assert recall.images == len(lossy.answers) == 60
    assert len(set(lossy.drawn)) == 60
    assert lossy.drawn != sorted(lossy.drawn), "drawn at random"
    pairs = zip(lossy.drawn, lossy.answers)
    shares = [slow_share(own, hits, vectors, neighbors) for own, hits in pairs]
    assert recall.value == pytest.approx(np.mean(shares))
    assert recall.low <= recall.value <= recall.high
    if loss == 0:
        assert recall.value == 1
    else:
        assert recall.value < 0.96


@pytest.mark.filterwarnings("ignore:Local mode")
def test_more_images_than_there_are_and_fewer_than_neighbors(
    spec: GallerySpec, vectors: dict[str, np.ndarray]
) -> None:
    bare = spec.model_copy(update={"indexes": {}})
    with ServerGallery.create(QdrantClient(":memory:"), "c", bare) as made:
        points = [GalleryPoint(id, vector, {}) for id, vector in vectors.items()]
        for count in (0, 1):
            made.upsert(points[:count])
            with pytest.raises(BadQuery, match=rf"at least two images; .*'c' at .* has {count}$"):
                measure_recall(made)
        made.upsert(points[:4])
        found = measure_recall(made, 1000)
        assert (found.value, found.images, found.neighbors) == (1.0, 4, 3)
    with pytest.raises(BadQuery, match="at least 1 image"):
        measure_recall(made, 0)


@pytest.mark.filterwarnings("ignore:Local mode")
def test_a_large_gallery_is_not_asked_for_long(gallery: ServerGallery) -> None:
    assert measure_recall(gallery, 100, longest=0.0).images == 10


def test_an_embedded_gallery_is_exact_and_says_so(
    tmp_path: Path, spec: GallerySpec, points: list[GalleryPoint]
) -> None:
    with EdgeGallery.create(tmp_path / "g", spec) as made:
        made.upsert(points)
        recall = measure_recall(made)
        assert recall.exact
        assert str(recall) == "1.0; an embedded gallery compares with every vector"
        assert recall_advice(recall, made.storage()) is None
        drawn = made.random_vectors(20)
        assert len(drawn) == 20
        stored = {image.id: image.vector for image in made.retrieve(list(drawn))}
        assert all(np.array_equal(stored[id], vector) for id, vector in drawn.items())


@given(st.floats(0, 1), st.integers(1, 5000))
def test_wilsons_interval(share: float, trials: int) -> None:
    """Its bounds are the shares p with (share - p)^2 = z^2 p (1 - p) / n, by bisection."""
    low, high = wilson(share, trials)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1

    def beyond(p: float) -> float:
        return (share - p) ** 2 - 1.959964**2 * p * (1 - p) / trials

    for bound, far in ((low, 0.0), (high, 1.0)):
        inside, outside = share, far
        for _ in range(80):
            middle = (inside + outside) / 2
            inside, outside = (inside, middle) if beyond(middle) > 0 else (middle, outside)
        assert math.isclose(bound, inside, abs_tol=1e-6)


def test_what_to_change_is_said_where_the_recall_is_low() -> None:
    def advice(value: float, kind: str) -> str | None:
        return recall_advice(Recall(value, value, value, 100), CollectionConfig(kind))  # type: ignore[arg-type]

    assert advice(0.95, "binary") is None
    plain = advice(0.9, "none")
    assert plain
    assert "hnsw_ef" in plain
    assert "oversampling" not in plain
    assert "--quantization" not in plain
    for kind, oversampling in OVERSAMPLING.items():
        told = advice(0.5, kind)
        assert told
        assert f'"oversampling": {2 * oversampling:g}' in told
        assert "hnsw_ef" in told
    assert "--quantization scalar or turbo4 or turbo2" in str(advice(0.5, "turbo1"))
