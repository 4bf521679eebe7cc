"""The services that ``bench/serve.py`` measures, each in a process of its own.

    python -m bench.services fti-serve|batched|plain mini|vit FOLDER

It prints its port once it listens.
"""

from __future__ import annotations

import io
import socket
import sys
from pathlib import Path

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    import fti_qdrant  # noqa: F401  (before torch, as users do: it limits OpenMP's spinning)

import torch
import uvicorn
from fastapi import FastAPI, Request

from bench.compose import composer_of
from fti_qdrant import AsyncComposedSearch, ComposedSearch, Composer, EdgeGallery
from fti_qdrant.gallery import GalleryPoint, GallerySpec, WordsSpec, point_id
from fti_qdrant.gallery.pseudo_words import stacked
from fti_qdrant.model.backbone import ImageFeatures
from fti_qdrant.query import Hits
from fti_qdrant.serve.app import create_app
from fti_qdrant.serve.settings import ServeSettings

IMAGES = 1000
"""In the gallery: the store's time is measured by bench/store.py."""


def composer(model: str) -> Composer:
    """``mini``, or a ViT-B/32 with random weights in the precision of this CPU."""
    if model == "mini":
        return Composer.load("mini", device="cpu")
    return composer_of("fp32")


def ids() -> list[str]:
    return [point_id(str(number)) for number in range(IMAGES)]


@torch.inference_mode()
def make_gallery(folder: Path, made_by: Composer) -> None:
    """Random images with pseudo-words, so that a query by id reads no picture."""
    backbone, inverter = made_by.backbone, made_by.inverter
    assert inverter is not None
    torch.manual_seed(0)
    words = WordsSpec(
        inverter=inverter.weights_hash, topk=inverter.topk, token_dim=backbone.token_dim
    )
    spec = GallerySpec(fingerprint=backbone.fingerprint, words=words)
    with EdgeGallery.create(folder, spec) as gallery:
        for part in torch.arange(IMAGES).split(100):
            pooled = torch.randn(len(part), backbone.dim)
            made = inverter(ImageFeatures(pooled, torch.randn(len(part), 50, backbone.width)))
            counts = made.counts.tolist()
            rows = zip(part.tolist(), pooled.numpy(), stacked(made), counts)
            gallery.upsert(
                [
                    GalleryPoint(
                        point_id(str(number)),
                        vector,
                        {"brand": f"brand {number % 7}", "_fti": {"sha256": "", "r": count}},
                        stored,
                    )
                    for number, vector, stored, count in rows
                ]
            )


def plain_app(search: ComposedSearch) -> FastAPI:
    """What a user would write: FastAPI runs such a handler in its threads."""
    app = FastAPI()

    async def body(request: Request) -> bytes:
        return await request.body()

    from fastapi import Depends

    @app.post("/search")
    def answer(text: str, id: str | None = None, data: bytes = Depends(body)) -> list[str]:
        return found(search.query(id or io.BytesIO(data), text))

    return app


def batched_app(search: AsyncComposedSearch) -> FastAPI:
    """The same handler, asynchronous."""
    app = FastAPI()

    @app.post("/search")
    async def answer(request: Request, text: str, id: str | None = None) -> list[str]:
        return found(await search.query(id or await request.body(), text))

    return app


def found(hits: Hits) -> list[str]:
    return [hit.id for hit in hits]


def main() -> None:
    kind, model, folder = sys.argv[1:4]
    search = ComposedSearch(composer(model), EdgeGallery.open(folder))
    if kind == "fti-serve":
        app = create_app(AsyncComposedSearch(search), ServeSettings(max_requests=1000))
    else:
        app = plain_app(search) if kind == "plain" else batched_app(AsyncComposedSearch(search))
    with socket.create_server(("127.0.0.1", 0), backlog=512) as listening:
        print(listening.getsockname()[1], flush=True)
        uvicorn.Server(uvicorn.Config(app, log_config=None)).run(sockets=[listening])


if __name__ == "__main__":
    main()
