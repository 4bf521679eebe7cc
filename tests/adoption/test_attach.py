"""``ComposedSearch.attach``: collections of other programs are searched as our own."""

from __future__ import annotations

import asyncio
import base64
import re
import threading
import uuid
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from PIL import Image
from qdrant_client import QdrantClient, models

from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.errors import BadCollection, UnknownImageId
from fti_qdrant.gallery import ModelCheck, connect
from fti_qdrant.model.names import MINI
from tests.adoption.collections import BRANDS, DIM, make_collection
from tests.qdrant_standin import Standin

READING = re.compile(
    r"GET .*|POST .*/points(/query/batch|/query/groups|/scroll|/count)?|POST .*/facet"
)


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_one_line_searches_a_collection_of_plain_calls(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path], declared: dict[str, Any]
) -> None:
    """Numbers as ids, an unnamed vector, fields of its own."""
    make_collection(client, vectors, paths)
    search = ComposedSearch.attach(client, "shop", **declared)
    hits = search.query(104, limit=5, exclude_reference=False)
    expected = np.argsort(-(unit(vectors) @ unit(vectors)[4]), kind="stable")[:5]
    assert [hit.id for hit in hits] == [100 + number for number in expected]
    assert hits[0].id == 104
    assert type(hits[0].id) is int
    assert hits[0].score == pytest.approx(1, abs=1e-5)
    assert hits[0].uri == str(paths[4])
    assert hits[0].payload["brand"] == BRANDS[4 % 3]
    assert hits.query.warnings == ()
    assert 104 not in [hit.id for hit in search.query(104, "in red")]

    cheap = search.query(paths[4], "in red", filter={"price": {"lt": 10}}, limit=30)
    assert len(cheap) == 10
    assert {hit.payload["price"] for hit in cheap} == set(range(10))
    grouped = search.query(104, "in red", group_by="brand", group_size=2, limit=5)
    assert set(grouped.groups) == set(BRANDS)
    assert all(len(group) == 2 for group in grouped.groups.values())
    assert all(
        hit.payload["brand"] == name for name, hits in grouped.groups.items() for hit in hits
    )


def test_numbers_go_through_all_of_a_query(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path], declared: dict[str, Any]
) -> None:
    make_collection(client, vectors, paths)
    search = ComposedSearch.attach(client, "shop", **declared)
    rated = search.query([100, np.int64(101)], "in red", like=[102], dislike=103, limit=30)
    assert {hit.id for hit in rated} == set(range(104, 124))
    only = models.Filter(must=[models.HasIdCondition(has_id=[107, 105])])
    assert {hit.id for hit in search.query(text="red", filter=only)} == {105, 107}
    assert search.query(100, limit=1)[0].as_dict()["id"] in range(101, 124)
    pages = [search.query(100, "in red", offset=at, limit=8) for at in (0, 8, 16, 24)]
    assert sorted(hit.id for page in pages for hit in page) == list(range(101, 124))
    light = search.query(100, with_payload=["brand"], with_vectors=True, limit=2)
    assert all(set(hit.payload) == {"brand"} for hit in light)
    assert light[0].vector is not None
    assert light[0].vector.shape == (DIM,)
    with pytest.raises(UnknownImageId, match="has no image 99;"):
        search.query(99, "in red")


def test_equal_scores_are_ordered_by_number(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path], declared: dict[str, Any]
) -> None:
    """Numbers before UUIDs, and 20 after 3."""
    ids = [20, 3, str(uuid.UUID(int=1)), 111]
    make_collection(client, vectors[:1].repeat(4, 0), paths[:4], ids=ids)
    search = ComposedSearch.attach(client, "shop", **{**declared, "uri_field": None})
    assert [hit.id for hit in search.query(text="red")] == [3, 20, 111, str(uuid.UUID(int=1))]


@pytest.mark.parametrize(("vector", "grpc"), [("photo", False), ("image", True)])
def test_named_vectors_over_a_server(
    tmp_path: Path,
    vectors: np.ndarray,
    paths: list[Path],
    declared: dict[str, Any],
    vector: str,
    grpc: bool,
    request: pytest.FixtureRequest,
) -> None:
    from tests.qdrant_grpc_standin import serving

    others = {"text": models.VectorParams(size=8, distance=models.Distance.EUCLID)}
    ids = [str(uuid.uuid4()) for _ in paths]
    if grpc:
        with serving(tmp_path / "grpc") as port:
            client = connect("http://127.0.0.1:1", grpc_port=port)
            _check_named(client, vectors, paths, declared, vector, ids, others)
    else:
        _, url = request.getfixturevalue("standin")
        _check_named(connect(url), vectors, paths, declared, vector, ids, others)


def _check_named(client, vectors, paths, declared, vector, ids, others) -> None:
    make_collection(client, vectors, paths, vector=vector, ids=ids, **others)
    with ComposedSearch.attach(client, "shop", vector=vector, **declared) as search:
        hits = search.query(ids[3], exclude_reference=False, limit=3)
        assert (hits[0].id, hits[0].uri) == (ids[3], str(paths[3]))
        assert hits.query.warnings == ()
        assert search.query(uuid.UUID(ids[3]), "in red", group_by="brand").groups
    assert client.count("shop").count == len(paths), "closing left the user's client open"


def test_attaching_and_searching_write_nothing(
    standin: tuple[Standin, str],
    vectors: np.ndarray,
    paths: list[Path],
    declared: dict[str, Any],
) -> None:
    server, url = standin
    make_collection(connect(url), vectors, paths)
    server.asked.clear()
    with ComposedSearch.attach(url, "shop", **declared) as search:
        search.query(104, "in red", filter={"brand": "Acme"}, group_by="brand")
        search.query(paths[0], "in red", like=101, cutoff=0.5, order_by="price")
        search.gallery.state()
    sent = server.asked
    assert len(sent) > 8
    assert [one for one in sent if not READING.fullmatch(one)] == []
    assert connect(url).get_collection("shop").config.metadata is None


def test_without_a_field_of_places_every_answer_says_that_nothing_was_checked(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path]
) -> None:
    make_collection(client, vectors, paths)
    search = ComposedSearch.attach(client, "shop", model="mini", device="cpu")
    for hits in (search.query(text="red"), *search.query_many([{"image": 100, "text": "red"}] * 2)):
        (warning,) = [one for one in hits.query.warnings if "not checked" in one]
        assert "'image_url' seems to; pass uri_field='image_url'" in warning
    assert search.query(100, with_payload=False, limit=1)[0].uri is None


def test_unreadable_images_are_counted_and_said(
    client: QdrantClient,
    vectors: np.ndarray,
    paths: list[Path],
    declared: dict[str, Any],
    tmp_path: Path,
) -> None:
    (tmp_path / "text.png").write_text("no picture")
    places: list[Any] = [*paths[:-2], tmp_path / "gone.png", tmp_path / "text.png"]
    make_collection(client, vectors, places)
    check = ComposedSearch.attach(client, "shop", **declared).gallery.spec.check
    assert check is not None
    assert (check.compared, check.unreadable, check.verdict) == (22, 2, "fits")
    assert "gone.png" in check.reason or "text.png" in check.reason

    make_collection(client, vectors, [tmp_path / "gone.png"] * len(paths), name="gone")
    search = ComposedSearch.attach(client, "gone", **declared)
    (warning,) = search.query(text="red").query.warnings
    assert "none of 24 images could be read" in warning
    assert "gone.png: no such file" in warning


def test_pictures_in_the_payload_and_below_a_root(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path], declared: dict[str, Any]
) -> None:
    """Base64, data URIs, file URIs and relative paths, each in a collection of its own."""
    texts = [base64.b64encode(path.read_bytes()).decode() for path in paths]
    kinds: dict[str, tuple[list[str], str | None]] = {
        "base64": (texts, None),
        "data": ([f"data:image/png;base64,{text}" for text in texts], None),
        "file": ([path.as_uri() for path in paths], None),
        "relative": ([path.name for path in paths], str(paths[0].parent)),
    }
    for name, (places, root) in kinds.items():
        make_collection(client, vectors, places, name=name)
        search = ComposedSearch.attach(client, name, image_root=root, **declared)
        check = search.gallery.spec.check
        assert check is not None
        assert (check.compared, check.verdict) == (24, "fits"), name
        uri = search.query(100, limit=1, exclude_reference=False)[0].uri
        assert uri == (None if name in ("base64", "data") else str(paths[0])), name


class QuietFiles(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


def test_remote_images_of_a_bucket_and_a_web_server(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path], declared: dict[str, Any]
) -> None:
    """A private host is asked only where the user has named it."""
    few = paths[:5]
    bucket = fsspec.filesystem("memory")
    for path in few:
        bucket.pipe(f"/shop/{path.name}", path.read_bytes())
    make_collection(client, vectors[:5], [f"memory://shop/{path.name}" for path in few], name="s3")
    search = ComposedSearch.attach(client, "s3", **declared)
    assert search.gallery.spec.check == ModelCheck(median=1.0, compared=5)

    handler = partial(QuietFiles, directory=str(few[0].parent))
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    root = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        make_collection(client, vectors[:5], [path.name for path in few], name="below")
        below = ComposedSearch.attach(client, "below", image_root=root, **declared)
        assert below.gallery.spec.check == ModelCheck(median=1.0, compared=5)
        assert below.query(100, limit=1)[0].uri.startswith(f"{root}/")  # type: ignore[union-attr]
        make_collection(client, vectors[:5], [f"{root}/{path.name}" for path in few], name="urls")
        (warning,) = (
            ComposedSearch.attach(client, "urls", **declared).query(text="a").query.warnings
        )
        assert "none of 5 images could be read" in warning
        assert "not a public address" in warning
    finally:
        server.shutdown()
        server.server_close()


def test_dot_products_of_unit_vectors_are_cosines(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path], declared: dict[str, Any]
) -> None:
    dot = models.Distance.DOT
    make_collection(client, unit(vectors), paths, name="unit", distance=dot)
    hits = ComposedSearch.attach(client, "unit", **declared).query(105, exclude_reference=False)
    assert (hits[0].id, round(hits[0].score, 4)) == (105, 1)
    make_collection(client, vectors, paths, name="raw", distance=dot)
    with pytest.raises(BadCollection, match=r"distance is Dot, and a stored vector has the length"):
        ComposedSearch.attach(client, "raw", **declared)


def test_a_name_proposes_the_model(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path]
) -> None:
    make_collection(client, vectors, paths, name="said", metadata={"embedding": {"model": "mini"}})
    search = ComposedSearch.attach(client, "said", uri_field="image_url", device="cpu")
    assert search.gallery.spec.fingerprint.model == "mini"
    folder = {"made by": f"local-dir:{MINI}"}
    make_collection(client, vectors, paths, name="folder", metadata={"notes": ["x", folder]})
    assert ComposedSearch.attach(client, "folder", uri_field="image_url", device="cpu")
    make_collection(client, vectors, paths, name="silent", metadata={"owner": "web/team", "n": 3})
    with pytest.raises(Exception, match=r"which model made .* 192 dimensions.* such as mini"):
        ComposedSearch.attach(client, "silent")


def test_the_asynchronous_twin(
    vectors: np.ndarray, paths: list[Path], declared: dict[str, Any], standin: tuple[Standin, str]
) -> None:
    from qdrant_client import AsyncQdrantClient

    server, url = standin
    make_collection(connect(url), vectors, paths)

    async def ids(client: Any) -> list[Any]:
        async with await AsyncComposedSearch.attach(client, "shop", **declared) as search:
            hits = await search.query(104, "in red", group_by="brand", limit=2)
            return [hit.id for hit in hits]

    async def both() -> None:
        theirs = AsyncQdrantClient(url=url, check_compatibility=False)
        assert await ids(url) == await ids(theirs)
        assert await theirs.collection_exists("shop"), "it stays open"
        await theirs.close()

    server.asked.clear()
    asyncio.run(both())
    sent = server.asked
    assert [one for one in sent if not READING.fullmatch(one)] == []


def test_a_hit_of_a_number_shows_itself_everywhere(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path]
) -> None:
    """In a text, a notebook and a data frame, also where nothing says where the image is."""
    make_collection(client, vectors, paths)
    search = ComposedSearch.attach(client, "shop", model="mini", device="cpu")
    hits = search.query(100, "in red", limit=2)
    assert str(hits[0].id) in repr(hits)
    assert str(hits[0].id) in hits._repr_html_()
    assert hits.to_pandas()["id"].tolist() == [hit.id for hit in hits]


def test_our_own_collections_can_be_attached_too(
    client: QdrantClient, vectors: np.ndarray, paths: list[Path]
) -> None:
    """What their metadata says need not be said again."""
    from fti_qdrant.gallery import GalleryPoint, GallerySpec, ServerGallery, point_id
    from fti_qdrant.model.backbone import Backbone

    backbone = Backbone.load("mini", device="cpu", preprocess="squash")
    found = backbone.image_features([Image.open(path) for path in paths]).pooled.numpy()
    gallery = ServerGallery.create(client, "ours", GallerySpec(fingerprint=backbone.fingerprint))
    gallery.upsert(
        [
            GalleryPoint(point_id(path.name), vector, {"_fti": {"uri": str(path), "sha256": "0"}})
            for path, vector in zip(paths, found)
        ]
    )
    search = ComposedSearch.attach(client, "ours", device="cpu")
    assert search.gallery.spec.check is not None
    assert search.gallery.spec.check.verdict == "fits"
    assert search.query(point_id("3.png"), limit=1)[0].payload == {}
