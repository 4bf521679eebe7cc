"""A gallery of drawings in a folder, ingested with ``mini``, and clients of a service over it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw
from starlette.testclient import TestClient

from fti_ingest.run.ingest import IngestJob, ingest
from fti_ingest.stages.embed import ModelChoice
from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.gallery import point_id
from fti_qdrant.gallery.location import EmbeddedLocation
from fti_qdrant.serve.app import create_app
from fti_qdrant.serve.settings import ServeSettings

COLORS = ("red", "blue", "green", "orange")
SHAPES = ("circle", "square", "cross")

Client = Callable[..., TestClient]


def draw(color: str, shape: str, size: tuple[int, int] = (96, 72)) -> Image.Image:
    picture = Image.new("RGB", size, "white")
    pen, box = ImageDraw.Draw(picture), (16, 8, size[0] - 16, size[1] - 8)
    if shape == "circle":
        pen.ellipse(box, fill=color)
    elif shape == "square":
        pen.rectangle(box, fill=color)
    else:
        pen.line((box[0], box[1], box[2], box[3]), fill=color, width=12)
        pen.line((box[0], box[3], box[2], box[1]), fill=color, width=12)
    return picture


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ``pictures`` and their ``gallery``."""
    folder = tmp_path_factory.mktemp("shop")
    (folder / "pictures").mkdir()
    rows = []
    for number, (color, shape) in enumerate((c, s) for c in COLORS for s in SHAPES):
        name = f"{color}-{shape}.png"
        draw(color, shape).save(folder / "pictures" / name)
        row = {"image": name, "color": color, "shape": shape, "price": 10.5 * (number + 1)}
        rows.append(row | {"stock": number, "sale": number % 2 == 0})
    lines = "\n".join(map(json.dumps, rows))
    (folder / "pictures" / "all.jsonl").write_text(lines)
    job = IngestJob(
        str(folder / "pictures" / "all.jsonl"),
        EmbeddedLocation(folder / "gallery"),
        ModelChoice("mini", device="cpu"),
        pseudo_words=True,
        indexes={"color": "keyword", "stock": "integer", "price": "float", "sale": "bool"},
    )
    assert ingest(job).stored == len(rows)
    return folder


@pytest.fixture(scope="session")
def search(shop: Path) -> Iterator[ComposedSearch]:
    with ComposedSearch.open(shop / "gallery", device="cpu", allow_paths=False) as opened:
        yield opened


@pytest.fixture(scope="session")
def client_of(search: ComposedSearch) -> Iterator[Client]:
    """Makes a client of a service with settings of its own."""
    with ExitStack() as opened:

        def make(headers: dict[str, str] | None = None, **settings: Any) -> TestClient:
            app = create_app(AsyncComposedSearch(search), ServeSettings(**settings))
            return opened.enter_context(TestClient(app, headers=headers))

        yield make


@pytest.fixture(scope="session")
def client(client_of: Client) -> TestClient:
    """Of a service with the settings that nobody has changed."""
    return client_of()


def id_of(color: str, shape: str) -> str:
    return point_id(f"{color}-{shape}.png")


def png(color: str = "red", shape: str = "circle", size: tuple[int, int] = (96, 72)) -> bytes:
    import io

    buffer = io.BytesIO()
    draw(color, shape, size).save(buffer, "PNG")
    return buffer.getvalue()
