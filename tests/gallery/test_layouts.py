"""Galleries of other layouts than ours: ids that are numbers, other names, and none."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from qdrant_client import models

from fti_qdrant.errors import UnknownImageId
from fti_qdrant.gallery import (
    CollectionLayout,
    Gallery,
    GalleryPoint,
    GallerySpec,
    ServerGallery,
    VectorQuery,
    point_id,
)
from fti_qdrant.gallery.layout import field_value
from fti_qdrant.gallery.point_ids import id_order, parsed_id, stored_form
from fti_qdrant.gallery.pseudo_words import unstacked, used_rows
from tests.gallery.conftest import DIM, Store

IDS: list[Any] = [7, 40, 3, 2**64 - 1, 0, point_id("a"), point_id("b"), 41]


@pytest.fixture
def mixed(store: Store, spec: GallerySpec) -> Iterator[Gallery]:
    """Numbers and UUIDs in one gallery, as Qdrant allows it; two vectors are equal."""
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(len(IDS), DIM)).astype(np.float32)
    vectors[1] = vectors[0]
    with store.create(spec) as gallery:
        gallery.upsert(
            [
                GalleryPoint(id, vector, {"brand": "Acme" if n % 2 else "Borg", "stock": n})
                for n, (id, vector) in enumerate(zip(IDS, vectors))
            ]
        )
        yield gallery


def test_numbers_as_ids(mixed: Gallery) -> None:
    first = mixed.retrieve([7])[0]
    found = mixed.search(VectorQuery(first.vector, limit=20))
    assert [hit.id for hit in found[:2]] == [7, 40], "equal scores, by number"
    assert {hit.id for hit in found} == set(IDS)
    assert all(type(hit.id) is type(stored_form(hit.id)) for hit in found)
    assert [one.id for one in mixed.retrieve([41, point_id("b"), 99, 0])] == [41, point_id("b"), 0]
    assert [id for id, _ in mixed.scroll(page=3)] == sorted(IDS, key=id_order)
    only = models.Filter(must=[models.HasIdCondition(has_id=[3, 40, point_id("a")])])
    assert {hit.id for hit in mixed.search(VectorQuery(first.vector, only))} == {
        3,
        40,
        point_id("a"),
    }
    assert mixed.count(models.Filter(must_not=[models.HasIdCondition(has_id=[0])])) == 7
    groups = mixed.search(VectorQuery(first.vector, group_by="brand", group_size=3))
    assert {hit.group for hit in groups} == {"Acme", "Borg"}
    diverse = mixed.search(VectorQuery(first.vector, diversity=0.5, limit=3))
    assert len({hit.id for hit in diverse}) == 3
    mixed.delete([2**64 - 1, point_id("a")])
    assert mixed.count() == 6
    mixed.upsert([GalleryPoint(3, np.ones(DIM, np.float32), {})])
    assert mixed.count() == 6


@pytest.mark.parametrize("id", [-1, 2**64, "7", "", 1.0, True, None, np.bool_(True)], ids=repr)
def test_what_is_no_id(id: Any) -> None:
    with pytest.raises(UnknownImageId, match="is not an image id"):
        stored_form(id)


def test_what_is_no_id_is_refused_by_a_gallery(mixed: Gallery) -> None:
    for ask in (mixed.retrieve, mixed.delete):
        with pytest.raises(UnknownImageId, match="is not an image id"):
            ask([-1])


@pytest.mark.parametrize("name", ["", "photo"])
def test_an_unnamed_or_other_vector(store: Store, spec: GallerySpec, name: str) -> None:
    if store.kind == "edge":
        pytest.skip("embedded galleries are our own")
    client = store.client()
    params = models.VectorParams(size=DIM, distance=models.Distance.COSINE)
    config: Any = {name: params} if name else params
    client.create_collection(store.collection, vectors_config=config)
    layout = CollectionLayout(image_vector=name, uri_field=None, ours=False)
    theirs = spec.model_copy(update={"layout": layout})
    gallery = ServerGallery(client, store.collection, theirs, "collection 'theirs'")
    vectors = np.random.default_rng(2).normal(size=(9, DIM)).astype(np.float32)
    gallery.upsert([GalleryPoint(n, vector, {"n": n}) for n, vector in enumerate(vectors)])
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    expected = np.argsort(-(unit @ unit[4]))[:3].tolist()
    for query in (
        VectorQuery(vectors[4], limit=3, with_vectors=True),
        VectorQuery(vectors[4], limit=3, with_vectors=True, group_by="n"),
    ):
        found = gallery.search(query)
        assert [hit.id for hit in found] == expected
        assert found[0].vector == pytest.approx(unit[4], abs=1e-5)
    assert gallery.retrieve([4])[0].vector == pytest.approx(unit[4], abs=1e-5)
    assert set(gallery.random_vectors(3)) <= set(range(9))


@given(st.integers(0, 2**64 - 1) | st.uuids())
def test_ids_survive_their_texts(id: Any) -> None:
    stored = stored_form(id)
    assert parsed_id(str(stored)) == stored
    assert stored_form(stored) == stored
    assert (stored == id) if isinstance(id, int) else (stored == str(id))


@given(st.integers(1, 12), st.data())
def test_used_rows_hold_all_that_counts(topk: int, data: st.DataObject) -> None:
    """Pseudo-words come back as they were, their number told by the rows."""
    count = data.draw(st.integers(1, topk))
    whole = np.random.default_rng(count).normal(size=(1 + topk, 5)).astype(np.float16)
    words = unstacked(used_rows(whole, count), topk=topk)
    assert words.counts.tolist() == [count]
    assert words.attributes.shape == (1, topk, 5)
    assert (words.subject.numpy()[0] == whole[0]).all()
    assert (words.attributes.numpy()[0, :count] == whole[1 : 1 + count]).all()
    same = unstacked(whole, count)
    assert (same.attributes[:, :count] == words.attributes[:, :count]).all()


@pytest.mark.parametrize(
    ("payload", "path", "value"),
    [
        ({"image": {"url": "a"}}, "image.url", "a"),
        ({"image.url": "b", "image": {"url": "a"}}, "image.url", "b"),
        ({"image": "a"}, "image.url", None),
        ({"image": None}, "image", None),
        ({}, "image", None),
    ],
)
def test_values_of_fields(payload: dict[str, Any], path: str, value: Any) -> None:
    assert field_value(payload, path) == value


@pytest.mark.parametrize(
    ("value", "place"),
    [("a.jpg", "a.jpg"), (["b.jpg", "c.jpg"], "b.jpg"), ([], None), (3, None), ("", None)],
)
def test_stored_uris(value: Any, place: str | None) -> None:
    layout = CollectionLayout(uri_field="image", ours=False)
    assert layout.stored_uri({"image": value}) == place
