"""Quantized collections: how they are made, and how many candidates their searches rescore."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from qdrant_client import QdrantClient, models

from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import GallerySpec, ServerGallery, VectorQuery, connect
from fti_qdrant.gallery.collection_config import OVERSAMPLING, CollectionConfig, Quantization
from fti_qdrant.gallery.recall import recall_advice
from fti_qdrant.gallery.request_limits import RequestLimits
from fti_qdrant.gallery.server_collection import ONE_BIT_OVERSAMPLING, oversampling_of
from tests.qdrant_standin import Standin, serving_standin

KINDS = get_args(Quantization)
MEASURED = {
    "scalar": {2: 0.998},
    "turbo4": {2: 1.0, 4: 1.0, 8: 1.0},
    "turbo2": {2: 0.94, 4: 0.998, 8: 1.0},
    "turbo1": {2: 0.76, 4: 0.94, 8: 0.996},
    "binary": {2: 0.79, 4: 0.94, 8: 0.996},
}
"""Recall@10 by oversampling, of a server 1.18.3 with 100,000 vectors of 512 dimensions."""


class Recording(Standin):
    """Keeps the parameters of each search."""

    def __init__(self, data: str):
        super().__init__(data)
        self.params: list[dict[str, Any]] = []

    def query_batch(self, name: str, body: dict[str, Any]) -> Any:
        self.params += [one["params"] for one in body["searches"]]
        return super().query_batch(name, body)

    def query_groups(self, name: str, body: dict[str, Any]) -> Any:
        self.params.append(body["params"])
        return super().query_groups(name, body)


@pytest.fixture(params=["rest", "grpc"])
def server(
    request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[tuple[QdrantClient, Recording]]:
    standin = Recording(str(tmp_path))
    grpc = request.param == "grpc"
    with serving_standin(standin, grpc) as port:
        url = "http://127.0.0.1:1" if grpc else f"http://127.0.0.1:{port}"
        yield connect(url, grpc_port=port if grpc else None), standin


def test_each_oversampling_is_the_least_that_was_measured_to_reach_99_percent() -> None:
    for kind, measured in MEASURED.items():
        good = [factor for factor, recall in measured.items() if recall >= 0.99]
        assert OVERSAMPLING[kind] == min(good)  # type: ignore[index]
    assert {*MEASURED, "none"} == set(KINDS)


@pytest.mark.filterwarnings("ignore:Local mode")
@pytest.mark.parametrize("kind", KINDS)
def test_a_collection_and_its_searches(
    server: tuple[QdrantClient, Recording], spec: GallerySpec, kind: Quantization
) -> None:
    client, standin = server
    wanted = CollectionConfig(kind, on_disk=True)
    ServerGallery.create(client, "c", spec, wanted)
    gallery = ServerGallery.open(client, "c")
    storage = gallery.storage()
    assert (storage.quantization, storage.on_disk) == (kind, True)
    stored = client.get_collection("c").config.params.vectors["image"].quantization_config  # type: ignore[index]
    if kind.startswith("turbo"):
        assert stored.turbo.bits == f"bits{kind[-1]}"
    if kind == "binary":
        assert stored.binary.encoding == models.BinaryQuantizationEncoding.TWO_BITS
    gallery.search(VectorQuery(np.ones(8)))
    gallery.search(VectorQuery(np.ones(8), group_by="brand"))
    gallery.search(VectorQuery(np.ones(8), diversity=0.5))
    for params in standin.params:
        given = params.get("quantization")
        if kind == "none":
            assert given is None
        else:
            assert (given["rescore"], given["oversampling"]) == (True, OVERSAMPLING[kind])
    standin.params.clear()
    gallery.search(VectorQuery(np.ones(8), exact=True))
    assert standin.params[0].get("quantization") is None
    with pytest.raises(BadManifest, match=f"with quantization {kind}, not "):
        gallery.storage().check(CollectionConfig("turbo4" if kind != "turbo4" else "scalar"), "c")


@pytest.mark.filterwarnings("ignore:Local mode")
@pytest.mark.parametrize(
    "own",
    [
        models.QuantizationSearchParams(oversampling=3.0),
        models.QuantizationSearchParams(rescore=False),
        models.QuantizationSearchParams(ignore=True),
    ],
)
def test_the_users_parameters_win(
    server: tuple[QdrantClient, Recording],
    spec: GallerySpec,
    own: models.QuantizationSearchParams,
) -> None:
    client, standin = server
    gallery = ServerGallery.create(client, "c", spec, CollectionConfig("turbo1"))
    params = models.SearchParams(hnsw_ef=99, quantization=own)
    gallery.search(VectorQuery(np.ones(8), params=params))
    gallery.search(VectorQuery(np.ones(8), params=models.SearchParams(hnsw_ef=99)))
    given = models.QuantizationSearchParams.model_validate(standin.params[0]["quantization"])
    assert (given.oversampling, given.rescore) == (own.oversampling, own.rescore)
    assert bool(given.ignore) == bool(own.ignore)
    assert standin.params[1]["quantization"]["oversampling"] == OVERSAMPLING["turbo1"]
    assert [one["hnsw_ef"] for one in standin.params] == [99, 99]


def config(
    vector: models.QuantizationConfig | None = None,
    collection: models.QuantizationConfig | None = None,
    strict: models.StrictModeConfigOutput | None = None,
    name: str = "image",
) -> models.CollectionConfig:
    params = models.VectorParams(
        size=8, distance=models.Distance.COSINE, quantization_config=vector
    )
    return models.CollectionConfig(
        params=models.CollectionParams(vectors={name: params} if name else params),
        hnsw_config=models.HnswConfig(m=16, ef_construct=100, full_scan_threshold=10_000),
        optimizer_config=models.OptimizersConfig(
            deleted_threshold=0.2,
            vacuum_min_vector_number=1000,
            default_segment_number=0,
            flush_interval_sec=5,
        ),
        quantization_config=collection,
        strict_mode_config=strict,
    )


ONE_BIT = models.BinaryQuantization(binary=models.BinaryQuantizationConfig(always_ram=True))
PRODUCT = models.ProductQuantization(
    product=models.ProductQuantizationConfig(compression=models.CompressionRatio.X16)
)
SCALAR = models.ScalarQuantization(
    scalar=models.ScalarQuantizationConfig(type=models.ScalarType.INT8)
)
EIGHT = models.TurboQuantization(
    turbo=models.TurboQuantQuantizationConfig(bits=models.TurboQuantBitSize.BITS8)
)


@pytest.mark.parametrize(
    ("made", "oversampling"),
    [
        (lambda: config(), None),
        (lambda: config(ONE_BIT), ONE_BIT_OVERSAMPLING),  # as we made it until it had two bits
        (lambda: config(SCALAR), 2),
        (lambda: config(collection=SCALAR), 2),
        (lambda: config(ONE_BIT, SCALAR), ONE_BIT_OVERSAMPLING),
        (lambda: config(collection=ONE_BIT, name=""), ONE_BIT_OVERSAMPLING),
        (lambda: config(PRODUCT), 8),
        (lambda: config(EIGHT), 8),
    ],
)
def test_quantization_that_others_chose(
    made: Callable[[], models.CollectionConfig], oversampling: float | None
) -> None:
    one = made()
    vector = "image" if isinstance(one.params.vectors, dict) else ""
    assert oversampling_of(one, vector) == oversampling
    assert RequestLimits.of(one, vector).oversampling == oversampling


def test_strict_mode_bounds_the_oversampling_that_we_choose() -> None:
    strict = models.StrictModeConfigOutput(enabled=True, search_max_oversampling=1.5)
    assert RequestLimits.of(config(SCALAR, strict=strict), "image").oversampling == 1.5
    assert RequestLimits.of(config(strict=strict), "image").oversampling is None
    off = strict.model_copy(update={"enabled": False})
    assert RequestLimits.of(config(SCALAR, strict=off), "image").oversampling == 2


def test_advice_names_only_quantization_that_there_is() -> None:
    from fti_qdrant.gallery.recall import Recall

    for kind in KINDS:
        told = recall_advice(Recall(0.4, 0.3, 0.5, 100), CollectionConfig(kind)) or ""
        _, _, rest = told.partition("--quantization ")
        named = rest.split(";")[0].split(" or ") if rest else []
        assert set(named) <= set(KINDS)
        assert all(OVERSAMPLING[one] < OVERSAMPLING[kind] for one in named)  # type: ignore[index]
