"""What a server says when it refuses: its one sentence, and whose fault it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest
from qdrant_client import models

from fti_qdrant.errors import (
    BadFilter,
    BadQuery,
    FtiError,
    GalleryNotFound,
    GalleryUnavailable,
)
from fti_qdrant.filters.field_choices import facets
from fti_qdrant.filters.stored_fields import StoredFields
from fti_qdrant.gallery import GalleryPoint, GallerySpec, ServerGallery, VectorQuery, connect
from fti_qdrant.gallery.protocol import FieldOrder
from fti_qdrant.gallery.server_errors import translated
from fti_qdrant.gallery.server_refusals import sentence_of
from tests.qdrant_standin import Standin, serving_standin

NO_INDEX = (
    'Bad request: Index required but not found for "color" of one of the following types: '
    "[keyword, uuid]. Help: Create an index for this key or use a different filter."
)
LIMIT = (
    'Bad request: Limit exceeded 50 > 20 for "limit". Help: Reduce the "limit" parameter to or '
    "below 20."
)

Make = Callable[..., tuple[ServerGallery, Standin]]


@pytest.fixture(params=["rest", "grpc"])
def make(request: pytest.FixtureRequest, tmp_path: Path, spec: GallerySpec) -> Iterator[Make]:
    """A gallery over a stand-in, filled, then put into strict mode or given a read-only key."""
    standin = Standin(str(tmp_path))
    galleries = []
    with serving_standin(standin, request.param == "grpc") as port:

        def made(points: list[GalleryPoint] = (), **strict: Any) -> tuple[ServerGallery, Standin]:  # type: ignore[assignment]
            client = (
                connect("http://127.0.0.1:1", grpc_port=port)
                if request.param == "grpc"
                else connect(f"http://127.0.0.1:{port}")
            )
            ServerGallery.create(client, "c", spec).upsert(points)
            if strict:
                standin.strict = models.StrictModeConfigOutput(enabled=True, **strict)
            galleries.append(ServerGallery.open(client, "c"))
            return galleries[-1], standin

        yield made
        for gallery in galleries:
            gallery.close()


@pytest.mark.parametrize(
    ("said", "kind", "shown"),
    [
        (NO_INDEX, BadFilter, r"^color: .*strict mode.*create_payload_index\('c', 'color', 'key"),
        (LIMIT, BadQuery, r"refuses the query, a limit of its strict mode: Limit exceeded 50 > 20"),
        ("Wrong input: Not existing vector name error: image", BadQuery, "query: Not existing vec"),
        ("Wrong input: Vector dimension error: expected dim: 9, got 8", BadQuery, "got 8$"),
        ('Bad request: Filter condition on "a" is not valid', BadFilter, 'on "a" is not valid$'),
        ("", BadQuery, "it does not say why|Bad Request"),
        ("a sentence\n over two lines", BadQuery, "a sentence over two lines$"),
    ],
)
def test_a_query_that_the_server_refuses(
    make: Make, said: str, kind: type[FtiError], shown: str
) -> None:
    gallery, standin = make()
    for ask in (
        lambda: gallery.search(VectorQuery(np.ones(8))),
        lambda: gallery.search(VectorQuery(np.ones(8), group_by="brand")),
        lambda: gallery.facets("brand"),
        lambda: gallery.count(models.Filter(must=[models.HasIdCondition(has_id=[1])])),
    ):
        standin.refusals = [(400, said)]
        with pytest.raises(kind, match=shown) as caught:
            ask()
        assert type(caught.value) is kind
        assert not set("{}\n") & set(str(caught.value))


@pytest.mark.parametrize(
    "call",
    [
        lambda gallery, points: gallery.upsert(points[:2]),
        lambda gallery, points: gallery.delete([points[0].id]),
        lambda gallery, points: gallery.begin_bulk(),
        lambda gallery, points: gallery.index_fields(),
    ],
)
def test_a_read_only_key_reads_and_is_told_so_where_it_would_write(
    make: Make, points: list[GalleryPoint], call: Callable[..., Any]
) -> None:
    gallery, standin = make(points)
    standin.read_only = True
    standin.asked.clear()
    fields = StoredFields(gallery)
    filter = fields.checked({"brand": "Acme", "price": {"lt": 30}})
    hits = gallery.search(VectorQuery(points[0].vector, filter=filter, diversity=0.3))
    assert hits[0].id == points[0].id
    assert gallery.search(VectorQuery(points[0].vector, group_by="brand", group_size=2))
    assert sum(one.count for one in facets(fields, "brand")) == len(points)
    assert gallery.state().points == len(gallery.random_vectors(99)) == len(points)
    written = [one for one in standin.asked if one.startswith(("PUT", "PATCH", "DELETE"))]
    assert not written
    with pytest.raises(GalleryUnavailable, match=r"'c' at .* may not write here \(.*\); pass one"):
        call(gallery, points)


def test_a_read_only_key_cannot_create(make: Make, spec: GallerySpec) -> None:
    gallery, standin = make()
    standin.read_only = True
    with pytest.raises(GalleryUnavailable, match=r"'new' at .* API key may not write here"):
        ServerGallery.create(gallery.client, "new", spec)


def test_strict_mode_refuses_a_filter_on_a_field_without_index(
    make: Make, points: list[GalleryPoint]
) -> None:
    gallery, _ = make(points, unindexed_filtering_retrieve=False)
    fields = StoredFields(gallery)
    assert fields.checked({"brand": "Acme"})
    with pytest.raises(BadFilter, match=r"^tags: .*create_payload_index\('c', 'tags', '\w+'\)$"):
        fields.checked({"tags": "a"})
    with pytest.raises(BadFilter, match=r"^tags: "):
        facets(fields, "tags")
    by_tag = models.FieldCondition(key="tags", match=models.MatchValue(value="a"))
    with pytest.raises(BadFilter, match=r"^tags: "):
        gallery.search(VectorQuery(np.ones(8), filter=models.Filter(must=[by_tag])))


def test_what_we_choose_ourselves_stays_within_strict_modes_limits(
    make: Make, points: list[GalleryPoint]
) -> None:
    limits = {"max_query_limit": 20, "upsert_max_batchsize": 7, "search_max_batchsize": 2}
    gallery, _ = make(points, **limits)
    gallery.upsert(points)
    assert [id for id, _ in gallery.scroll()] == sorted(point.id for point in points)
    assert len(gallery.sample()) == 20
    query = VectorQuery(points[0].vector, limit=20)
    assert [len(hits) for hits in gallery.search_many([query] * 5)] == [20] * 5
    with pytest.raises(BadQuery, match="strict mode: Limit exceeded 22 > 20"):
        gallery.search(VectorQuery(points[0].vector, limit=21))
    order = VectorQuery(points[0].vector, order_by=FieldOrder("price"), score_threshold=-1)
    with pytest.raises(BadQuery, match="strict mode"):
        gallery.search(order)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ('{"status":{"error":"Wrong input: no"},"time":0.1}', "no"),
        ('{"status":{"error":"Forbidden: Write access is required"}}', "Write access is required"),
        ('{"status":"error","message":"upstream is away"}', "upstream is away"),
        ('{"error":{"message":"quota","code":7}}', "quota"),
        ('{"detail":"Not authenticated"}', "Not authenticated"),
        ('{"code":7}', ""),
        ("[1, 2]", ""),
        ("{broken", ""),
        ("<!doctype html><h1>502</h1>", ""),
        ("", ""),
        ("Payload reached size limit.\n", "Payload reached size limit."),
        ("x" * 5000, "x" * 300),
        ('{"status":{"error":null}}', ""),
        ('"plain"', '"plain"'),
    ],
)
def test_the_sentence_of_an_answer(body: str, sentence: str) -> None:
    assert sentence_of(body) == sentence


class Failed(grpc.RpcError):
    def __init__(self, code: grpc.StatusCode, details: str):
        super().__init__()
        self.code, self.details = lambda: code, lambda: details


@pytest.mark.parametrize(
    ("code", "details", "kind", "shown"),
    [
        ("INVALID_ARGUMENT", LIMIT, BadQuery, "strict mode: Limit exceeded"),
        ("INVALID_ARGUMENT", NO_INDEX, BadFilter, "^color: "),
        ("NOT_FOUND", "Not found: Collection `c`", GalleryNotFound, "does not exist"),
        ("UNAUTHENTICATED", "no key", GalleryUnavailable, "refused access; check the API key"),
        ("PERMISSION_DENIED", "no", GalleryUnavailable, "refused access; check the API key"),
        ("RESOURCE_EXHAUSTED", "wait", GalleryUnavailable, "slow down .RESOURCE_EXHAUSTED: wait"),
        (
            "RESOURCE_EXHAUSTED",
            "SERVER: Received message larger than max (9 vs. 4)",
            GalleryUnavailable,
            "larger than the server takes",
        ),
        ("UNIMPLEMENTED", "no such method", GalleryUnavailable, "answered UNIMPLEMENTED: no such"),
    ],
)
def test_the_same_by_codes(code: str, details: str, kind: type[FtiError], shown: str) -> None:
    with pytest.raises(kind, match=shown), translated("collection 'c'", "search"):
        raise Failed(grpc.StatusCode[code], details)


def test_other_programs_json_is_not_shown(make: Make) -> None:
    gallery, standin = make()
    standin.refusals = [(500, json.dumps({"trace": ["a", "b"]}))]
    with pytest.raises(GalleryUnavailable) as caught:
        gallery.count()
    assert "trace" not in str(caught.value)
