"""The cache of weights hashes: the same value as without it, and never a wrong one."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fti_qdrant.model import weights_cache
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.fingerprint import weights_hash
from fti_qdrant.model.loading import weights_file
from fti_qdrant.model.names import MINI
from fti_qdrant.model.weights_cache import cached_weights_hash

WEIGHTS = {"a": torch.arange(1000.0), "b": torch.ones(3, 4)}
HASH = weights_hash(WEIGHTS.items())


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FTI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights.json"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_file(WEIGHTS, path)
    return path


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """One entry for each time that all weights were hashed."""
    calls: list[int] = []

    def counting(items):
        calls.append(1)
        return weights_hash(items)

    monkeypatch.setattr(weights_cache, "weights_hash", counting)
    return calls


def test_hashed_once(cache, file, hashed):
    assert cached_weights_hash(WEIGHTS, [file]) == HASH
    assert cached_weights_hash(WEIGHTS, [file]) == HASH
    assert len(hashed) == 1
    assert list(json.loads(cache.read_text())) == [str(file.resolve())]


def test_by_the_file_that_a_link_points_to(cache, file, hashed, tmp_path):
    link = tmp_path / "link.safetensors"
    link.symlink_to(file)
    assert cached_weights_hash(WEIGHTS, [link]) == cached_weights_hash(WEIGHTS, [file]) == HASH
    assert len(hashed) == 1


def test_a_changed_file_is_hashed_again(cache, file, hashed):
    cached_weights_hash(WEIGHTS, [file])
    status = file.stat()
    os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert cached_weights_hash(WEIGHTS, [file]) == HASH
    assert len(hashed) == 2


def test_of_shards_each_one_counts(cache, file, hashed, tmp_path):
    other = tmp_path / "other.safetensors"
    save_file(WEIGHTS, other)
    assert cached_weights_hash(WEIGHTS, [file, other]) == HASH
    assert cached_weights_hash(WEIGHTS, [file, other]) == HASH
    assert len(hashed) == 1
    status = other.stat()
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    assert cached_weights_hash(WEIGHTS, [file, other]) == HASH
    assert len(hashed) == 2


def test_other_weights_than_the_files_are_noticed(cache, file):
    cached_weights_hash(WEIGHTS, [file])
    other = {**WEIGHTS, "b": torch.zeros(3, 4)}
    assert cached_weights_hash(other, [file]) == weights_hash(other.items()) != HASH


def test_without_a_file_nothing_is_cached(cache, tmp_path, hashed):
    assert cached_weights_hash(WEIGHTS, []) == HASH
    assert cached_weights_hash(WEIGHTS, [tmp_path / "missing"]) == HASH
    assert len(hashed) == 2
    assert not cache.exists()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "5", "null", '{"x": 1}', "\x00", "[" * 100_000, "KEY 5", "KEY {}"]
)
def test_a_damaged_cache_is_ignored_and_mended(cache, file, content):
    cache.parent.mkdir()
    if content.startswith("KEY"):
        content = f"{{{json.dumps(str(file.resolve()))}: {content[4:]}}}"
    cache.write_text(content)
    assert cached_weights_hash(WEIGHTS, [file]) == HASH
    assert json.loads(cache.read_text())[str(file.resolve())]["hash"] == HASH


def test_a_cache_that_cannot_be_written_is_ignored(file, tmp_path, monkeypatch):
    (tmp_path / "blocked").write_text("a file, where the folder should be")
    monkeypatch.setenv("FTI_CACHE", str(tmp_path / "blocked"))
    assert cached_weights_hash(WEIGHTS, [file]) == HASH


def test_the_users_cache_folder(tmp_path, monkeypatch):
    monkeypatch.delenv("FTI_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert weights_cache._cache_file() == tmp_path / "fti-qdrant" / "weights.json"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert weights_cache._cache_file() == tmp_path / ".cache" / "fti-qdrant" / "weights.json"


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_second_load_of_mini_hashes_nothing(cache, hashed, precision):
    first = Backbone.load("mini", device="cpu").fingerprint
    second = Backbone.load("mini", device="cpu", precision=precision).fingerprint
    assert first == second
    assert len(hashed) == 1


def test_the_weights_files_of_models(tmp_path, monkeypatch):
    assert weights_file("mini") == MINI / "open_clip_model.safetensors"
    assert weights_file(f"local-dir:{tmp_path}") is None
    assert weights_file("ViT-B-32/no-such-tag") is None
    monkeypatch.setattr(
        "fti_qdrant.model.loading.try_to_load_from_cache", lambda repo, name: f"/hub/{repo}/{name}"
    )
    name = "open_clip_model.safetensors"
    assert weights_file("hf-hub:org/model") == Path(f"/hub/org/model/{name}")
    found = weights_file("ViT-B-32/laion2b_s34b_b79k")
    assert found is not None
    assert found.name == name
