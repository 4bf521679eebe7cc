"""Fixtures for all tests: a tiny random CLIP, a composer on it, a Ray cluster. No network."""

from __future__ import annotations

import atexit
import copy
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image

from fti_qdrant.composers.composer import Composer
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter
from tests.clusters import started

TINY = {
    "model_cfg": {
        "embed_dim": 64,
        "vision_cfg": {
            "image_size": 32,
            "patch_size": 16,
            "width": 48,
            "head_width": 16,
            "layers": 2,
        },
        "text_cfg": {
            "context_length": 77,
            "vocab_size": 49408,
            "width": 64,
            "heads": 2,
            "layers": 2,
        },
    },
    "preprocess_cfg": {"size": 32, "mean": [0.5, 0.4, 0.6], "std": [0.5, 0.25, 0.3]},
}

RAY_ACCESS = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}
os.environ.update(RAY_ACCESS)  # Ray reads it once in a process
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start, some at a time

if "FTI_CACHE" not in os.environ:  # tests and the processes that they start leave the user's alone
    os.environ["FTI_CACHE"] = tempfile.mkdtemp(prefix="fti-cache-")
    atexit.register(shutil.rmtree, os.environ["FTI_CACHE"], ignore_errors=True)

CLUSTER = """
import logging, sys, ray
ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False,
         logging_level=logging.ERROR)
print(ray.get_runtime_context().gcs_address, flush=True)
sys.stdin.read()
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes come first: of what ends last, one would wait for the other."""
    files = {item.path for item in items if "ray_cluster" in getattr(item, "fixturenames", ())}
    items.sort(key=lambda item: item.path not in files)


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Tensors this small are faster on one thread, by far where other work runs beside."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _leaves_the_folder(_one_thread: None) -> Iterator[None]:
    """A test that moves this process to another folder would fail a later one, not itself."""
    folder = Path.cwd()
    yield
    left, _ = Path.cwd(), os.chdir(folder)
    assert left == folder, f"the test left the process in {left}: use monkeypatch.chdir"


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)


@pytest.fixture
def tiny_config() -> dict[str, Any]:
    """A tiny model as ``open_clip_config.json`` describes it; a copy to change."""
    return copy.deepcopy(TINY)


@pytest.fixture(scope="session")
def tiny_clip() -> torch.nn.Module:
    """A random open_clip CLIP with d = t = 64, w = 48 and 1 + 4 visual tokens."""
    torch.manual_seed(1)
    model = open_clip.CLIP(**TINY["model_cfg"])
    model.visual.preprocess_cfg = copy.deepcopy(TINY["preprocess_cfg"])
    with torch.no_grad():  # so large that a wrong token or a wrong place shows in the features
        model.token_embedding.weight.normal_(std=0.5)
        model.positional_embedding.normal_(std=0.3)
    return model


@pytest.fixture(scope="session")
def tiny_backbone(tiny_clip: torch.nn.Module) -> Backbone:
    """``tiny_clip`` behind our interface; both share the weights."""
    return Backbone(tiny_clip, SimpleTokenizer(), "tiny")


@pytest.fixture(scope="session")
def tiny_composer(tiny_backbone: Backbone) -> Composer:
    """With a random inverter whose r varies from picture to picture."""
    torch.manual_seed(2)
    inverter = Inverter.for_backbone(tiny_backbone)
    with torch.no_grad():
        inverter.to_local.weight.mul_(3)
        for mlp in (inverter.subject_mlp, inverter.attribute_mlp):
            mlp[-1].weight.mul_(10)
    return Composer(tiny_backbone, inverter)


@pytest.fixture(scope="session")
def pictures() -> list[Image.Image]:
    """Eight RGB pictures of colored patches, of different shapes."""
    rng = np.random.default_rng(0)
    shapes = [(32, 32), (40, 32), (20, 50), (64, 64), (33, 47), (90, 30), (16, 16), (48, 60)]
    patches = [Image.fromarray(rng.integers(0, 256, (2, 2, 3), dtype=np.uint8)) for _ in shapes]
    return [patch.resize(shape) for patch, shape in zip(patches, shapes)]


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[dict[str, str]]:
    """The environment to join the one cluster of this test process with.

    It ends with the session, or with this process.
    """
    with started(CLUSTER, RAY_ACCESS) as process:
        assert process.stdout is not None
        yield {**RAY_ACCESS, "RAY_ADDRESS": process.stdout.readline().strip()}
