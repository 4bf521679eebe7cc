"""``fti-train cache``, and training from it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch

from fti_qdrant.errors import CheckpointError, FtiError, ModelMismatch
from fti_qdrant.images import open_image
from fti_qdrant.model.backbone import Backbone
from fti_training.cache import write
from fti_training.cache.layout import Cache
from fti_training.cache.write import CacheWriter, FeatureShapes
from fti_training.samples import read_samples
from fti_training.step import Sentences
from tests.model.open_clip_models import save_family
from tests.training.fit.runs import fit_line, fitted, rows_of, start, train, write_samples

SHARD, COUNT = 32, 50
"""More than one shard."""


@pytest.fixture(scope="module", autouse=True)
def _small_shards() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "SHARD_ROWS", SHARD)
        patch.setattr(write, "EMBED_BATCH", 8)
        yield


@pytest.fixture(scope="module")
def mini() -> Backbone:
    return Backbone.load("mini", device="cpu")


@pytest.fixture(scope="module")
def captions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fifty drawings, one of them damaged."""
    table = write_samples(tmp_path_factory.mktemp("drawings"), COUNT)
    Path(read_samples(table).uris([4])[0].as_py()).write_bytes(b"no picture")
    return table


@pytest.fixture(scope="module")
def cached(captions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of ``mini`` whose second shard was lost, and then written again."""
    out = tmp_path_factory.mktemp("cache") / "features"
    line = ["cache", captions, "--out", out]
    done = train(*line)
    assert done.exit_code == 0, done.output
    assert f"{COUNT} samples, 0.36 MB" in done.output
    assert f"{COUNT - 1} samples; 1 unreadable" in done.output
    assert "no picture" not in (out / "rejects.jsonl").read_text()
    first = out / "shards" / "00000" / "tokens.npy"
    written = first.stat().st_mtime_ns
    (out / "shards" / "00001" / "pooled.npy").write_bytes(b"torn")
    (out / "cache.json").unlink()
    with pytest.raises(CheckpointError, match="incomplete"):
        Cache.open(out)
    again = train(*line)
    assert again.exit_code == 0, again.output
    assert "0.13 MB to write" in again.output
    assert first.stat().st_mtime_ns == written
    return out


def test_it_holds_the_features_of_the_pictures_and_sentences(
    cached: Path, captions: Path, mini: Backbone
) -> None:
    cache = Cache.open(cached)
    assert len(cache.samples) == COUNT - 1
    rows = [0, 3, 4, SHARD - 1, SHARD - 2, COUNT - 2]
    features, sentences = cache.read(rows)
    uris = cache.samples.uris(rows).to_pylist()
    expected = mini.image_features([open_image(uri).image for uri in uris])
    torch.testing.assert_close(features.pooled.float(), expected.pooled, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(features.tokens.float(), expected.tokens, rtol=2e-3, atol=4e-3)
    real = Sentences(mini)(cache.samples.captions(rows))
    torch.testing.assert_close(sentences.float(), real, rtol=2e-3, atol=2e-3)
    damaged = read_samples(captions).uris([4])[0].as_py()
    assert damaged not in cache.samples.uris(range(COUNT - 1)).to_pylist()


def test_training_from_it_needs_no_pictures(
    cached: Path, captions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The pictures are moved away; the losses are those of the run that read them."""
    settings = {"steps": 4, "batch": 16, "dropout": 0, "average": 0.5}
    whole = tmp_path / "captions.parquet"
    pq.write_table(Cache.open(cached).samples.table, whole)
    fitted("--captions", whole, "--out", tmp_path / "read", **settings)
    away = captions.parent.with_name("away")
    captions.parent.rename(away)
    monkeypatch.chdir(cached.parent)
    try:
        fitted("--cache", cached.name, "--out", tmp_path / "cached", **settings)
    finally:
        away.rename(captions.parent)
    pairs = list(zip(rows_of(tmp_path / "read/log.csv"), rows_of(tmp_path / "cached/log.csv")))
    assert len(pairs) == 4
    for one, other in pairs:
        assert other["total"] == pytest.approx(one["total"], abs=0.02)


def test_workers_of_a_cluster_write_the_same_features(
    cached: Path, captions: Path, ray_cluster: dict[str, str], tmp_path: Path
) -> None:
    line = ["cache", str(captions), "--out", str(tmp_path / "c"), "--workers", "2"]
    running = start(line, ray_cluster)
    output, errors = running.communicate(timeout=300)
    assert running.returncode == 0, errors
    assert f"{COUNT - 1} samples; 1 unreadable" in output
    ours, expected = Cache.open(tmp_path / "c"), Cache.open(cached)
    assert ours.samples.table.equals(expected.samples.table)
    every = range(COUNT - 1)
    (features, sentences), (wanted, texts) = ours.read(every), expected.read(every)
    torch.testing.assert_close(features.pooled, wanted.pooled, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(features.tokens, wanted.tokens, rtol=2e-3, atol=4e-3)
    torch.testing.assert_close(sentences, texts, rtol=2e-3, atol=2e-3)


def fit_error(*arguments: object, **settings: object) -> str:
    done = train(*fit_line(*arguments, **settings))
    assert done.exit_code == 2, done.output
    assert "Traceback" not in done.output
    return done.output


def test_augmentation_and_a_cache_exclude_each_other(cached: Path, tmp_path: Path) -> None:
    message = fit_error("--cache", cached, "--out", tmp_path / "o", augment="jitter")
    assert "augment=jitter changes the pictures" in message


def test_a_cache_of_another_model_is_refused(
    cached: Path, tmp_path: Path, mini: Backbone, captions: Path, tiny_backbone: Backbone
) -> None:
    cache = Cache.open(cached)
    cache.check_model(mini.fingerprint)
    with pytest.raises(ModelMismatch, match="was made by mini"):
        cache.check_model(tiny_backbone.fingerprint)
    samples = read_samples(captions)
    writer = CacheWriter(cached, tiny_backbone, samples, FeatureShapes.of(tiny_backbone))
    with pytest.raises(CheckpointError, match="holds a cache made by mini"):
        writer.prepare()


def test_a_cache_of_other_captions_is_refused(cached: Path, tmp_path: Path, mini: Backbone) -> None:
    samples = read_samples(write_samples(tmp_path, 5))
    with pytest.raises(CheckpointError, match="other captions"):
        CacheWriter(cached, mini, samples, FeatureShapes.of(mini)).prepare()


def test_a_disk_that_is_too_small_is_refused_beforehand(
    captions: Path, tmp_path: Path, mini: Backbone
) -> None:
    huge = FeatureShapes((192,), (10**9, 192), (192,))
    with pytest.raises(FtiError, match=r"the cache needs .* GB and .* free"):
        CacheWriter(tmp_path / "c", mini, read_samples(captions), huge).prepare()


@pytest.mark.parametrize("file", ["shards/00000/tokens.npy", "cache.json", "captions.parquet"])
@pytest.mark.parametrize("left", [0, 40])
def test_a_truncated_file_is_told(cached: Path, tmp_path: Path, file: str, left: int) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(cached, copy)
    whole = (copy / file).read_bytes()
    (copy / file).write_bytes(whole[:left])
    with pytest.raises(CheckpointError, match="run fti-train cache again"):
        Cache.open(copy)


def test_shards_and_index_must_agree(cached: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(cached, copy)
    index = json.loads((copy / "cache.json").read_text())
    assert index["shards"] == [SHARD - 1, COUNT - SHARD]
    np.save(copy / "shards/00001/pooled.npy", np.zeros((COUNT - SHARD - 1, 192), np.float16))
    with pytest.raises(CheckpointError, match=f"damaged: its shards hold {COUNT - 2} samples"):
        Cache.open(copy)


def test_a_folder_without_a_cache(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="holds no cache"):
        Cache.open(tmp_path)


@pytest.mark.parametrize("family", ["resnet", "coca"])
def test_a_model_that_no_inverter_works_with_is_refused(
    family: str, captions: Path, tmp_path: Path
) -> None:
    model = save_family(family, tmp_path / "model")
    out = tmp_path / "out"
    for done in (
        train("cache", captions, "--out", out, "--model", model),
        train(*fit_line("--captions", captions, "--out", out, model=model)),
    ):
        assert done.exit_code == 2, done.output
        assert "an inverter needs p" in done.output.replace("a cache for ", "")
        assert "sum or slerp" in done.output
