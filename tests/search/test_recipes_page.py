"""The page of recipes: its code runs as printed, and finds what a slow reference finds."""

from __future__ import annotations

import re
import shutil
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge as edge
from qdrant_client import QdrantClient, models

from fti_qdrant import ComposedSearch
from fti_qdrant.gallery import GalleryPoint

PAGE = Path(__file__).parents[2] / "docs" / "recipes.md"
TODAY = "2026-06-01T00:00:00Z"
DAY = 24 * 3600
Made = dict[str, Any]


def unit(vector: np.ndarray) -> np.ndarray:
    return vector / np.linalg.norm(vector)


@pytest.fixture(scope="module")
def products(points: list[GalleryPoint]) -> list[dict[str, Any]]:
    """Eleven products: a picture, two photos, words, and fields that the boosts read."""
    rng = np.random.default_rng(5)
    rows = []
    for number, point in enumerate(points[:-1]):
        payload: dict[str, Any] = {"stock": number % 3}
        if number % 4:
            payload["added"] = f"2026-05-{2 * number + 1:02d}T00:00:00Z"
        image = unit(point.vector)
        photos = [unit(image + 0.2 * rng.normal(size=len(image))) for _ in range(2)]
        words = {token: float(rng.uniform(0.1, 2)) for token in {number % 5, number % 3 + 5}}
        rows.append({"image": image, "photos": photos, "words": words, "payload": payload})
    return rows


@pytest.fixture(scope="module")
def client(products: list[dict[str, Any]]) -> QdrantClient:
    made = QdrantClient(":memory:")
    size = len(products[0]["image"])
    cosine = models.Distance.COSINE
    best = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)
    made.create_collection(
        "products",
        vectors_config={
            "image": models.VectorParams(size=size, distance=cosine),
            "photos": models.VectorParams(size=size, distance=cosine, multivector_config=best),
        },
        sparse_vectors_config={"text": models.SparseVectorParams()},
    )
    for id, row in enumerate(products):
        words = models.SparseVector(indices=list(row["words"]), values=list(row["words"].values()))
        vectors = {
            "image": row["image"].tolist(),
            "photos": [photo.tolist() for photo in row["photos"]],
            "text": words,
        }
        point = models.PointStruct(id=id, vector=vectors, payload=row["payload"])
        made.upsert("products", [point])
    return made


@pytest.fixture(scope="module")
def shard(products: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    size = len(products[0]["image"])
    best = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
    made = edge.EdgeShard.create(
        str(tmp_path_factory.mktemp("shard")),
        edge.EdgeConfig(
            vectors={
                "image": edge.EdgeVectorParams(size, edge.Distance.Cosine),
                "photos": edge.EdgeVectorParams(
                    size, edge.Distance.Cosine, multivector_config=best
                ),
            },
            sparse_vectors={"text": edge.EdgeSparseVectorParams()},
        ),
    )
    points = []
    for id, row in enumerate(products):
        vectors: dict[str, Any] = {
            "image": row["image"].tolist(),
            "photos": [photo.tolist() for photo in row["photos"]],
            "text": edge.SparseVector(list(row["words"]), list(row["words"].values())),
        }
        points.append(edge.Point(id, vectors, row["payload"]))
    made.update(edge.UpdateOperation.upsert_points(points))
    yield made
    made.close()


@pytest.fixture
def page(
    search: ComposedSearch,
    client: QdrantClient,
    shard: Any,
    paths: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Made:
    """What the names of the page are after all of its code has run."""
    shutil.copy(paths[0], tmp_path / "dress.jpg")
    monkeypatch.chdir(tmp_path)
    words = models.SparseVector(indices=[1, 5], values=[1.0, 0.5])
    names: Made = {"search": search, "client": client, "shard": shard}
    names |= {"words": words, "today": TODAY}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 5
    for block in blocks:
        exec(block, names)
    return names


def by_score(scores: dict[int, float]) -> list[tuple[int, float]]:
    return sorted(scores.items(), key=lambda pair: -pair[1])[:10]


def same(found: Any, expected: list[tuple[int, float]]) -> None:
    np.testing.assert_allclose(
        [point.score for point in found], [score for _, score in expected], rtol=1e-4
    )
    assert {point.id for point in found} == {id for id, _ in expected}


def test_hybrid(page: Made, products: list[dict[str, Any]]) -> None:
    vector = np.array(page["vector"])
    images = {id: float(row["image"] @ vector) for id, row in enumerate(products)}
    asked = dict(zip(page["words"].indices, page["words"].values))
    texts = {
        id: sum(asked[token] * value for token, value in row["words"].items() if token in asked)
        for id, row in enumerate(products)
        if asked.keys() & row["words"].keys()
    }
    assert 0 < len(texts) < len(products)
    fused = dict.fromkeys(images, 0.0)
    for scores, weight in ((images, 3.0), (texts, 1.0)):
        for rank, id in enumerate(sorted(scores, key=lambda id: -scores[id])):
            fused[id] += 1 / (60 + (rank + 1) / weight - 1)
    same(page["hybrid"].points, by_score(fused))
    same(page["fused"], by_score(fused))


def test_boost(page: Made, products: list[dict[str, Any]]) -> None:
    vector, today = np.array(page["vector"]), datetime(2026, 6, 1, tzinfo=timezone.utc)
    scores = {}
    for id, row in enumerate(products):
        added = row["payload"].get("added", "2000-01-01T00:00:00Z").replace("Z", "+00:00")
        days = (today - datetime.fromisoformat(added)).total_seconds() / DAY
        stock = 0.05 * (row["payload"]["stock"] > 0)
        scores[id] = float(row["image"] @ vector) + 0.1 * 0.5 ** (days / 30) + stock
    same(page["boosted"].points, by_score(scores))
    same(page["fresh"], by_score(scores))


def test_several_photos(page: Made, products: list[dict[str, Any]]) -> None:
    vector = np.array(page["vector"])
    scores = {
        id: max(float(photo @ vector) for photo in row["photos"]) for id, row in enumerate(products)
    }
    same(page["products"].points, by_score(scores))
    same(page["best_photos"], by_score(scores))
