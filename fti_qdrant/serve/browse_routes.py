"""``GET /items`` and ``GET /items/{id}``: what the gallery holds, without a search."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query

from fti_qdrant.gallery.async_gallery import AsyncGallery
from fti_qdrant.serve.answers import ItemsAnswer, ShownImage, stored_image
from fti_qdrant.serve.documented import PROBLEMS
from fti_qdrant.serve.pictures import StoredPictures
from fti_qdrant.serve.schemas import IdInPath

MOST_ITEMS = 100


def browse_routes(gallery: AsyncGallery, pictures: StoredPictures) -> APIRouter:
    """Images as they are stored: a first impression, and the names behind ids."""
    routes = APIRouter(tags=["items"], responses=PROBLEMS)

    @routes.get("/items")
    async def items(limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 24) -> ItemsAnswer:
        """Some images, the first by id; ids are hashes, so they come from all of the gallery."""
        layout = gallery.spec.layout
        found = await gallery.first(limit)
        return ItemsAnswer(items=[stored_image(*one, layout) for one in found])

    @routes.get("/items/{id}")
    async def item(id: IdInPath) -> ShownImage:
        """One image."""
        found = await pictures.find(id)
        return stored_image(found.id, found.payload, gallery.spec.layout)

    return routes
