"""The stores that the conformance suite runs over."""

from __future__ import annotations

import os
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest
from qdrant_client import QdrantClient

from fti_qdrant.gallery import (
    EdgeGallery,
    Gallery,
    GalleryPoint,
    GallerySpec,
    ServerGallery,
    WordsSpec,
    connect,
    point_id,
)
from fti_qdrant.model.fingerprint import Fingerprint
from tests.qdrant_grpc_standin import serving
from tests.qdrant_standin import serving_rest

DIM, TOPK, TOKEN_DIM = 8, 3, 6
FINGERPRINT = Fingerprint("tiny", "0123456789abcdef", "GELU", "targetpad", DIM)
INDEXES = {
    "brand": "keyword",
    "price": "float",
    "stock": "integer",
    "new": "bool",
    "since": "datetime",
}


class Store:
    """A place for one gallery: made with ``create``, closed and opened with ``reopen``."""

    def __init__(self, kind: str, folder: Path):
        self.kind = kind
        self.folder = folder
        self.collection = f"fti-test-{uuid.uuid4().hex}"
        self._client: QdrantClient | None = None
        self._servers = ExitStack()
        self._port: int | None = None

    def create(self, spec: GallerySpec) -> Gallery:
        if self.kind == "edge":
            return EdgeGallery.create(self.folder / "gallery", spec)
        with warnings.catch_warnings():  # local mode has no payload indexes, and says so
            warnings.simplefilter("ignore")
            return ServerGallery.create(self.client(), self.collection, spec)

    def open(self) -> Gallery:
        if self.kind == "edge":
            return EdgeGallery.open(self.folder / "gallery")
        return ServerGallery.open(self.client(), self.collection)

    def reopen(self, gallery: Gallery) -> Gallery:
        """The gallery as the next process finds it (in memory: as the next caller does)."""
        if self.kind != "memory":
            gallery.close()
            self._client = None
        return self.open()

    def client(self) -> QdrantClient:
        if self._client is None:
            if self.kind == "memory":
                self._client = QdrantClient(":memory:")
            elif self.kind == "path":
                self._client = QdrantClient(path=str(self.folder / "local"))
            elif self.kind == "grpc":
                self._client = self._over_grpc()
            elif self.kind == "rest":
                self._client = self._over_rest()
            else:
                self._client = connect(os.environ["QDRANT_URL"])
        return self._client

    def _over_grpc(self) -> QdrantClient:
        """What Qdrant's gRPC makes of requests and answers, over a stand-in in this process."""
        if self._port is None:
            self._port = self._servers.enter_context(serving(self.folder / "standin"))
        return connect("http://127.0.0.1:1", grpc_port=self._port)

    def _over_rest(self) -> QdrantClient:
        """The same over its HTTP interface."""
        if self._port is None:
            self._port = self._servers.enter_context(serving_rest(self.folder / "standin"))
        return connect(f"http://127.0.0.1:{self._port}")

    def remove(self) -> None:
        if self.kind == "server":
            connect(os.environ["QDRANT_URL"]).delete_collection(self.collection)
        self._servers.close()


STORES = ["edge", "memory", "path", "grpc", pytest.param("server", marks=pytest.mark.server)]


@pytest.fixture(params=STORES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Each kind of store in turn; a real server only where there is one."""
    if request.param == "server" and not os.environ.get("QDRANT_URL"):
        pytest.skip("no Qdrant server: set QDRANT_URL")
    made = Store(request.param, tmp_path)
    yield made
    made.remove()


@pytest.fixture
def spec() -> GallerySpec:
    return GallerySpec(fingerprint=FINGERPRINT, indexes=INDEXES)  # type: ignore[arg-type]


@pytest.fixture
def words_spec(spec: GallerySpec) -> GallerySpec:
    words = WordsSpec(inverter="fedcba9876543210", topk=TOPK, token_dim=TOKEN_DIM)
    return spec.model_copy(update={"words": words})


@pytest.fixture
def gallery(store: Store, spec: GallerySpec) -> Iterator[Gallery]:
    made = store.create(spec)
    yield made
    made.close()


@pytest.fixture(scope="session")
def points() -> list[GalleryPoint]:
    """Fifty random images with a payload of every type."""
    rng = np.random.default_rng(0)
    return [
        GalleryPoint(
            point_id(f"{number}.jpg"),
            rng.normal(size=DIM).astype(np.float32),
            {
                "brand": ["Acme", "Borg", "Crux"][number % 3],
                "price": number * 1.5,
                "stock": number % 7,
                "new": number % 2 == 0,
                "since": f"2026-01-{number % 28 + 1:02d}T12:00:00Z",
                "tags": ["a", "b", "c"][: number % 4],
                "size": {"width": number, "height": None},
                "_fti": {"uri": f"shop/{number}.jpg", "sha256": f"{number:064x}"},
            },
        )
        for number in range(50)
    ]
