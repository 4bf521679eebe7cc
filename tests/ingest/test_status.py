"""``fti-ingest status``: images, not the engine's sum over vectors; the recall; a read-only key."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from fti_ingest.cli.main import main
from fti_ingest.run.server_index import BulkLoad, recall_after
from fti_qdrant.gallery import (
    EdgeGallery,
    GalleryPoint,
    GallerySpec,
    ServerGallery,
    WordsSpec,
    connect,
    point_id,
)
from fti_qdrant.gallery.collection_config import CollectionConfig
from fti_qdrant.gallery.protocol import indexed_images
from fti_qdrant.model.fingerprint import Fingerprint
from tests.qdrant_standin import Standin, serving_standin

SPEC = GallerySpec(
    fingerprint=Fingerprint("tiny", "0123456789abcdef", "GELU", "targetpad", 8),
    words=WordsSpec(inverter="fedcba9876543210", topk=1, token_dim=6),
)
IMAGES = 40


class Summing(Standin):
    """Tells indexed vectors as a server does, and loses hits of approximate searches on demand."""

    indexed: int | None = None
    lossy = False

    def describe(self, name: str, body: dict[str, Any]) -> Any:
        info = super().describe(name, body)
        return info if self.indexed is None else {**info, "indexed_vectors_count": self.indexed}

    def query_batch(self, name: str, body: dict[str, Any]) -> Any:
        answers = super().query_batch(name, body)
        for asked, answer in zip(body["searches"], answers):
            if self.lossy and not asked["params"].get("exact"):
                del answer.points[1::2]
        return answers


def some_points(spec: GallerySpec) -> list[GalleryPoint]:
    rng = np.random.default_rng(0)
    dim, words = spec.fingerprint.dim, np.ones((2, 6), np.float16)
    vectors = rng.normal(size=(IMAGES, dim)).astype(np.float32)
    return [GalleryPoint(point_id(str(n)), row, {}, words) for n, row in enumerate(vectors)]


@pytest.fixture
def standin(tmp_path: Path) -> Summing:
    return Summing(str(tmp_path / "server"))


@pytest.fixture
def url(standin: Summing) -> Iterator[str]:
    with serving_standin(standin) as port:
        url = f"http://127.0.0.1:{port}"
        storage = CollectionConfig("turbo1")
        with ServerGallery.create(connect(url), "c", SPEC, storage) as made:
            made.upsert(some_points(SPEC))
        yield url


Status = Callable[..., str]


@pytest.fixture
def status(url: str) -> Status:
    def run(*options: str) -> str:
        arguments = ["status", "--url", url, "--collection", "c", *options]
        done = CliRunner().invoke(main, arguments)
        assert done.exit_code == 0, done.stderr
        return done.output

    return run


@pytest.mark.parametrize(
    ("told", "indexed"), [(0, 0), (2 * 36, 36), (2 * IMAGES, IMAGES), (3 * 2 * IMAGES, IMAGES)]
)
def test_indexed_images_are_no_sum_over_vectors(
    standin: Summing, status: Status, told: int, indexed: int
) -> None:
    standin.indexed = told
    state = json.loads(status("--json"))
    assert (state["points"], state["indexed"]) == (IMAGES, indexed)
    assert f"indexed images:  {indexed} of {IMAGES}; others" in status()


@given(st.integers(0, 10**9), st.integers(1, 5), st.integers(0, 10**9))
def test_never_more_than_the_images(vectors: int, each: int, images: int) -> None:
    found = indexed_images(vectors, each, images)
    assert 0 <= found <= images
    assert indexed_images(each * images, each, images) == images


@pytest.mark.soak
def test_the_engine_counts_vectors_without_an_index_too(tmp_path: Path) -> None:
    """Of pseudo-words with m = 0: its figure is twice the number of images."""
    made_by = Fingerprint("tiny", "0123456789abcdef", "GELU", "targetpad", 512)
    spec = SPEC.model_copy(update={"fingerprint": made_by})
    rng = np.random.default_rng(0)
    vectors, words = rng.normal(size=(6500, 512)).astype(np.float32), np.ones((2, 6), np.float16)
    with EdgeGallery.create(tmp_path / "g", spec) as gallery:
        for start in range(0, 6500, 500):
            gallery.upsert(
                [
                    GalleryPoint(point_id(str(start + n)), row, {}, words)
                    for n, row in enumerate(vectors[start : start + 500])
                ]
            )
        assert gallery.build_index() == 6500
        assert gallery._open_shard().info().indexed_vectors_count == 2 * 6500


def test_recall_and_quantization(standin: Summing, status: Status) -> None:
    plain = status()
    assert "quantization:    turbo1" in plain
    assert "recall@10:" not in plain
    good = status("--recall", "30")
    assert "recall@10:       1.000 (95 % interval 0.886 to 1.000, by Wilson, 30 images)" in good
    assert "WARNING" not in good
    standin.lossy = True
    told = status("--recall")
    assert f"{IMAGES} images)" in told, "100 are asked for, and there are fewer"
    assert "WARNING: recall@10 is below 0.95" in told
    assert "--quantization scalar or turbo4 or turbo2" in told
    found = json.loads(status("--json", "--recall", "20"))["recall"]
    assert found["value"] < 0.7
    assert (found["images"], found["neighbors"]) == (20, 10)


@pytest.mark.parametrize("wrong", ["0", "many", "1.5"])
def test_a_number_of_images_that_is_none(url: str, wrong: str) -> None:
    arguments = ["status", "--url", url, "--collection", "c", f"--recall={wrong}"]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2
    assert "--recall" in done.stderr


def test_a_read_only_key_is_enough(standin: Summing, status: Status) -> None:
    standin.read_only = True
    assert "recall@10:" in status("--recall", "5")


def test_an_embedded_gallery_says_that_it_is_exact(tmp_path: Path) -> None:
    with EdgeGallery.create(tmp_path / "g", SPEC) as gallery:
        gallery.upsert(some_points(SPEC))
    done = CliRunner().invoke(main, ["status", "--gallery", str(tmp_path / "g"), "--recall"])
    assert "recall@10:       1.0; an embedded gallery compares with every vector" in done.output


def test_what_a_run_measures_at_its_end(
    standin: Summing, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    notes: list[str] = []
    with ServerGallery.open(connect(url), "c") as gallery:
        assert recall_after(gallery, BulkLoad(), 0, notes.append) is None
        assert notes == []
        found = recall_after(gallery, BulkLoad(), 1, notes.append)
        assert found is not None
        assert found.value == 1
        assert notes == ["building the index ...", "measuring the recall ..."]
        standin.lossy = True
        low = recall_after(gallery, BulkLoad(ended=True), 0, notes.append)
        assert low is not None
        assert low.value < 0.7
        assert "recall@10 is below 0.95" in caplog.text
        gallery.client.delete_collection("c")
    plain = GallerySpec(fingerprint=SPEC.fingerprint)
    with ServerGallery.create(connect(url), "plain", plain) as gallery:
        assert recall_after(gallery, BulkLoad(), 5, notes.append) is None, "not quantized"
        assert recall_after(gallery, BulkLoad(ended=True), 0, notes.append) is None, "empty"


def test_a_server_that_cannot_compare_in_time_does_not_fail_the_run(
    standin: Summing, url: str, caplog: pytest.LogCaptureFixture
) -> None:
    with ServerGallery.open(connect(url), "c") as gallery:
        gallery.random_vectors = lambda count: gallery._call(refuse)  # type: ignore[method-assign]

        def refuse() -> Any:
            standin.refusals = [(500, "timeout")]
            return gallery.client.count("c")

        assert recall_after(gallery, BulkLoad(ended=True), 1, lambda sentence: None) is None
    assert "the recall could not be measured" in caplog.text
