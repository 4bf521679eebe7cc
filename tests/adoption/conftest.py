"""Collections that this package did not make, in memory and behind stand-ins."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qdrant_client import QdrantClient

from fti_qdrant.model import backbone
from tests.adoption.collections import OpenClip, write_pictures
from tests.qdrant_standin import Standin, serving_standin


@pytest.fixture(scope="module", autouse=True)
def _weights_are_read_once() -> Iterator[None]:
    """Backbones of one name share their weights, which nothing here changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(backbone, "load_model", cache(backbone.load_model))
        yield


@pytest.fixture(scope="session")
def paths(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    return write_pictures(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="session")
def clip() -> OpenClip:
    return OpenClip()


@pytest.fixture(scope="session")
def vectors(clip: OpenClip, paths: list[Path]) -> np.ndarray:
    return clip.vectors(paths)


@pytest.fixture
def client() -> Iterator[QdrantClient]:
    made = QdrantClient(":memory:")
    yield made
    made.close()


@pytest.fixture
def standin(tmp_path: Path) -> Iterator[tuple[Standin, str]]:
    """A server that remembers its requests, and its URL."""
    made = Standin(str(tmp_path / "standin"))
    with serving_standin(made) as port:
        yield made, f"http://127.0.0.1:{port}"


@pytest.fixture
def declared() -> dict[str, Any]:
    """What is said about the collections of these tests."""
    return {"model": "mini", "uri_field": "image_url", "device": "cpu"}
