"""A search that a forked process has inherited refuses at once, before the model runs."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fti_qdrant import AsyncComposedSearch, ComposedSearch, ServerGallery
from fti_qdrant.errors import GalleryUnavailable
from fti_qdrant.gallery import GalleryPoint

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
SECONDS = 20


def in_a_child(call: Callable[[], Any]) -> str:
    """What ``call`` raises in a forked process, or that it took too long."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(SECONDS)
        told = "nothing was raised"
        try:
            call()
        except BaseException as error:
            told = f"{type(error).__name__}: {error}"
        os.write(writer, told.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    os.waitpid(child, 0)
    return told or f"no answer in {SECONDS} seconds"


def ways_of(search: ComposedSearch, path: Path) -> dict[str, Callable[[], Any]]:
    twin = AsyncComposedSearch(search)
    return {
        "image and text": lambda: search.query(path, "in red"),
        "text": lambda: search.query(text="in red"),
        "several": lambda: search.query_many([{"text": "a"}, {"text": "b"}]),
        "with a filter": lambda: search.query(text="a", filter={"price": {"lt": 3}}),
        "explain": lambda: search.explain(path),
        "compose": lambda: search.compose(path, "in red"),
        "async": lambda: asyncio.run(twin.query(path, "in red")),
        "async explain": lambda: asyncio.run(twin.explain(path)),
    }


@pytest.mark.parametrize("kind", ["embedded", "server"])
def test_every_way_in(
    search: ComposedSearch,
    memory: ServerGallery,
    plain_points: list[GalleryPoint],
    paths: list[Path],
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if kind == "server":
        memory.upsert(plain_points)
        search = ComposedSearch(search.composer, memory)
    assert search.query(paths[0], "in red", composer="sum")  # the model's threads run

    def never(*_: Any) -> None:
        raise AssertionError("the model ran")

    for name, call in ways_of(search, paths[0]).items():
        with monkeypatch.context() as patch:
            patch.setattr(search.composer.backbone, "image_features", never)
            patch.setattr(search.composer.backbone, "text_features", never)
            told = in_a_child(call)
        assert told.startswith("GalleryUnavailable: "), (name, told)
        assert "was opened before a fork; open it in each process after the fork" in told
    assert in_a_child(search.close) == "nothing was raised"
    assert search.query(paths[0], "in red", composer="sum"), "the parent goes on"


def test_a_closed_search_refuses_before_the_model_runs(
    search: ComposedSearch, memory: ServerGallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = ComposedSearch(search.composer, memory)
    closed.close()
    monkeypatch.setattr(search.composer.backbone, "text_features", None)
    with pytest.raises(GalleryUnavailable, match="is closed"):
        closed.query(text="in red")
