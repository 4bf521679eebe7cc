"""Collections that cannot be searched, and declarations that do not fit: what the messages say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from fti_qdrant import ComposedSearch
from fti_qdrant.errors import (
    BadCollection,
    FtiError,
    GalleryNotFound,
    GalleryUnavailable,
    ModelMismatch,
    UnsupportedModel,
)
from tests.adoption.collections import DIM, make_collection

COSINE = models.Distance.COSINE
Make = Callable[[QdrantClient, np.ndarray, list[Path]], None]


def params(size: int = DIM, distance: models.Distance = COSINE, **more: Any) -> models.VectorParams:
    return models.VectorParams(size=size, distance=distance, **more)


MANY = models.MultiVectorConfig(comparator=models.MultiVectorComparator.MAX_SIM)


def several(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    make_collection(client, vectors, paths, vector="front", back=params(), words=params(8))


def sparse(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    client.create_collection(
        "shop", vectors_config={}, sparse_vectors_config={"bm25": models.SparseVectorParams()}
    )


def mixed(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    client.create_collection(
        "shop",
        vectors_config={"image": params(), "patches": params(multivector_config=MANY)},
        sparse_vectors_config={"bm25": models.SparseVectorParams()},
    )


def patches(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    client.create_collection("shop", vectors_config=params(multivector_config=MANY))


def empty(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    client.create_collection("shop", vectors_config=params())


def as_bytes(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    client.create_collection("shop", vectors_config=params(datatype=models.Datatype.UINT8))


def with_distance(distance: models.Distance) -> Make:
    def make(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
        make_collection(client, vectors, paths, distance=distance)

    return make


def binary(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    make_collection(client, np.sign(vectors), paths)


def zeros(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    make_collection(client, np.zeros_like(vectors), paths)


def without_it(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    make_collection(client, vectors[:, :8], paths, vector="words", image=params())


def plain(client: QdrantClient, vectors: np.ndarray, paths: list[Path]) -> None:
    make_collection(client, vectors, paths)


CASES: list[tuple[Make, dict[str, Any], type[FtiError], str]] = [
    (
        several,
        {},
        BadCollection,
        r"'front' \(192 .*'back' \(192 .*'words' \(8 .*Pass vector",
    ),
    (several, {"vector": "side"}, BadCollection, r"has no vector 'side'; it has vector 'front'"),
    (several, {"vector": ""}, BadCollection, r"has no unnamed vector; it has vector 'front'"),
    (several, {"vector": "words"}, ModelMismatch, r"8 dimensions, and those of 'mini' have 192"),
    (plain, {"vector": "image"}, BadCollection, r"has no vector 'image'; it has unnamed vector"),
    (plain, {"vector": 3}, BadCollection, r"vector must be the name of a vector, got 3"),
    (sparse, {}, BadCollection, r"has sparse vectors alone \(bm25\)"),
    (sparse, {"vector": "bm25"}, BadCollection, r"vector 'bm25' is sparse"),
    (
        mixed,
        {"vector": "patches"},
        BadCollection,
        r"'patches' holds several vectors for each",
    ),
    (mixed, {"vector": "bm25"}, BadCollection, r"'bm25' is sparse"),
    (patches, {}, BadCollection, r"unnamed vector holds several vectors for each point"),
    (empty, {}, BadCollection, r"is empty: there is nothing to search"),
    (as_bytes, {}, BadCollection, r"stores bytes \(uint8\)"),
    (
        with_distance(models.Distance.EUCLID),
        {},
        BadCollection,
        r"distance Euclid, whose scores",
    ),
    (with_distance(models.Distance.MANHATTAN), {}, BadCollection, r"distance Manhattan"),
    (binary, {}, BadCollection, r"two different values each, so they were made binary"),
    (zeros, {}, BadCollection, r"zero or not finite"),
    (without_it, {"vector": "image"}, BadCollection, r"no point .* has a vector 'image'"),
    (
        plain,
        {"model": "ViT-B-32/laion2b_s34b_b79k"},
        ModelMismatch,
        r"have 512; known models with "
        r"192 are mini",
    ),
    (plain, {"model": "clip-ViT-L-14"}, ModelMismatch, r"'clip-ViT-L-14' have 768"),
    (plain, {"model": "nonsense"}, UnsupportedModel, r"unknown model 'nonsense'"),
    (plain, {"model": None}, UnsupportedModel, r"which model made the vectors"),
    (
        plain,
        {"uri_field": "image_ur1"},
        BadCollection,
        r"'image_ur1'; fields are: brand, ima",
    ),
    (plain, {"uri_field": "price"}, BadCollection, r"has a text in the field 'price'"),
    (plain, {"uri_field": ""}, BadCollection, r"uri_field must be a text that is not empty"),
    (plain, {"check": -1}, BadCollection, r"check must be a number of images from 0 to 1,000"),
    (plain, {"check": True}, BadCollection, r"check must be a number"),
    (plain, {"check": 2.5}, BadCollection, r"check must be a number"),
    (plain, {"preprocess": "cubist"}, ModelMismatch, r"unknown preprocessing 'cubist'"),
]


@pytest.mark.parametrize(
    ("make", "options", "kind", "message"),
    CASES,
    ids=[f"{one[0].__name__} {one[1]}" for one in CASES],
)
def test_what_cannot_be_attached(
    client: QdrantClient,
    vectors: np.ndarray,
    paths: list[Path],
    declared: dict[str, Any],
    make: Make,
    options: dict[str, Any],
    kind: type[FtiError],
    message: str,
) -> None:
    make(client, vectors, paths)
    with pytest.raises(kind, match=message) as caught:
        ComposedSearch.attach(client, "shop", **{**declared, **options})
    assert "\n" not in str(caught.value)
    assert client.collection_exists("shop"), "the user's client stays open"


def test_no_such_collection(client: QdrantClient, declared: dict[str, Any]) -> None:
    client.create_collection("store", vectors_config=params())
    with pytest.raises(GalleryNotFound, match=r"no collection 'shop' .*; the server has: store"):
        ComposedSearch.attach(client, "shop", **declared)


@pytest.mark.parametrize("client", [3, None, "localhost:6333", "shop"], ids=repr)
def test_what_is_no_client(client: Any, declared: dict[str, Any]) -> None:
    with pytest.raises(GalleryUnavailable, match="address"):
        ComposedSearch.attach(client, "shop", **declared)


def test_connecting_to_such_a_collection_says_how_to_adopt_it(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path]
) -> None:
    make_collection(client, vectors, paths)
    with pytest.raises(GalleryUnavailable, match=r"fti-ingest adopt, or .*ComposedSearch\.attach"):
        ComposedSearch.connect(client, "shop")


def test_folders_of_other_stores(tmp_path: Path, vectors: np.ndarray, paths: list[Path]) -> None:
    local = QdrantClient(path=str(tmp_path / "local"))
    make_collection(local, vectors, paths)
    local.close()
    with pytest.raises(GalleryNotFound) as caught:
        ComposedSearch.open(tmp_path / "local")
    assert "qdrant-client's local mode, with 'shop'; search it by" in str(caught.value)
    call = str(caught.value).partition("ComposedSearch.attach(")[2].partition(", model=")[0]
    source, name = eval(f"({call})", {"QdrantClient": QdrantClient})  # as the message has it
    search = ComposedSearch.attach(source, name, model="mini", uri_field="image_url", device="cpu")
    assert search.query(100).query.warnings == ()
    source.close()
    for file, said in {
        "chroma.sqlite3": "a folder of Chroma",
        "items.lance": "a folder of LanceDB",
        "index.faiss": "a folder of FAISS",
    }.items():
        folder = tmp_path / file.replace(".", "-")
        folder.mkdir()
        (folder / file).touch()
        with pytest.raises(GalleryNotFound, match=said):
            ComposedSearch.open(folder)
    server = tmp_path / "storage"
    (server / "collections").mkdir(parents=True)
    (server / "raft_state.json").write_text("{}")
    with pytest.raises(GalleryNotFound, match="storage of a Qdrant server"):
        ComposedSearch.open(server)
