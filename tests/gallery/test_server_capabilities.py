"""What a server can do by its version, which is asked for once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from fti_qdrant.errors import GalleryUnavailable
from fti_qdrant.gallery import GallerySpec, ServerGallery, VectorQuery, connect
from fti_qdrant.gallery.collection_config import CollectionConfig
from fti_qdrant.gallery.server_capabilities import AVAILABLE, ServerCapabilities
from tests.qdrant_standin import Standin, serving_standin


@contextmanager
def server(folder: Path, version: str | None, grpc: bool = False) -> Iterator[QdrantClient]:
    standin = Standin(str(folder))
    standin.version = version
    with serving_standin(standin, grpc) as port:
        yield (
            connect("http://127.0.0.1:1", grpc_port=port)
            if grpc
            else connect(f"http://127.0.0.1:{port}")
        )


@pytest.mark.parametrize("grpc", [False, True])
def test_the_version_is_asked_for_once(tmp_path: Path, spec: GallerySpec, grpc: bool) -> None:
    standin = Standin(str(tmp_path))
    with serving_standin(standin, grpc) as port:
        client = (
            connect("http://127.0.0.1:1", grpc_port=port)
            if grpc
            else connect(f"http://127.0.0.1:{port}")
        )
        with ServerGallery.create(client, "c", spec) as gallery:
            gallery.search(VectorQuery(np.ones(8), diversity=0.5))
            ServerGallery.open(client, "c").facets("brand")
            assert ServerCapabilities.of(client).version == "1.18.3"
        assert standin.asked.count("GET /") == 1


@pytest.mark.parametrize("grpc", [False, True])
def test_a_server_that_hides_its_version_can_do_everything(
    tmp_path: Path, spec: GallerySpec, grpc: bool, recwarn: pytest.WarningsRecorder
) -> None:
    with server(tmp_path, None, grpc) as client:
        able = ServerCapabilities.of(client)
        assert able.version is None
        assert all(able.supports(feature) for feature in AVAILABLE)
        with ServerGallery.create(client, "c", spec) as gallery:
            assert gallery.search(VectorQuery(np.ones(8), diversity=0.5)) == []
    assert not [one for one in recwarn if "version" in str(one.message)]


@pytest.mark.parametrize("grpc", [False, True])
def test_a_server_below_the_floor(tmp_path: Path, spec: GallerySpec, grpc: bool) -> None:
    with (
        pytest.raises(GalleryUnavailable, match=r"runs Qdrant 1\.9\.7.*query API.*needs 1\.11"),
        server(tmp_path / "a", "1.9.7", grpc),
    ):
        pass
    with server(tmp_path / "b", "1.15.4", grpc) as client:
        wanted = r"'c' at .* runs Qdrant 1\.15\.4, and metadata .* needs 1\.16 or newer; update"
        with pytest.raises(GalleryUnavailable, match=wanted):
            ServerGallery.create(client, "c", spec)
        with pytest.raises(GalleryUnavailable, match=wanted):
            ServerGallery.open(client, "c")
        assert client.get_collections().collections == []


def test_a_feature_is_refused_where_it_is_asked_for_and_not_before(
    tmp_path: Path, spec: GallerySpec
) -> None:
    with server(tmp_path, "1.17.1") as client:
        for kind in ("turbo4", "turbo2", "turbo1"):
            with pytest.raises(GalleryUnavailable, match=r"TurboQuant needs 1\.18"):
                ServerGallery.create(client, "c", spec, CollectionConfig(kind))
        assert not client.collection_exists("c")
        with ServerGallery.create(client, "c", spec, CollectionConfig("binary")) as gallery:
            gallery.search(VectorQuery(np.ones(8), diversity=0.5))
    with server(tmp_path, "1.16.0") as client, ServerGallery.open(client, "c") as gallery:
        acorn = models.SearchParams(acorn=models.AcornSearchParams(enable=True))
        gallery.search(VectorQuery(np.ones(8), params=acorn))
        gallery.search(VectorQuery(np.ones(8), group_by="brand"))
    old = ServerCapabilities("1.9.1")
    for feature in ("groups", "facets", "diversity", "acorn"):
        with pytest.raises(GalleryUnavailable, match=r"runs Qdrant 1\.9\.1"):
            old.require(feature, "collection 'c'")  # type: ignore[arg-type]


def test_qdrant_clients_local_mode_can_do_everything() -> None:
    able = ServerCapabilities.of(QdrantClient(":memory:"))
    assert all(able.supports(feature) for feature in AVAILABLE)


@pytest.mark.parametrize("told", ["", "latest", "dev-2026", "one.two"])
def test_what_is_no_version_hides_it(told: str) -> None:
    assert ServerCapabilities(told).supports("turbo")


@pytest.mark.parametrize(
    ("version", "turbo"),
    [("1.18.0", True), ("1.18.3-dev", True), ("v1.20.0", True), ("2.0.1", True), ("1.17.9", False)],
)
def test_versions_as_servers_write_them(version: str, turbo: bool) -> None:
    assert ServerCapabilities(version).supports("turbo") is turbo
    assert ServerCapabilities("0.11.7").supports("queries") is False
