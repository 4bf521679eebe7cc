"""``GET /items`` and ``GET /items/{id}``: what the gallery holds, without a search."""

from __future__ import annotations

from itertools import islice
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from fti_qdrant.gallery import Gallery
from fti_qdrant.serve.answers import ItemsAnswer, ShownImage, stored_image
from fti_qdrant.serve.documented import PROBLEMS
from fti_qdrant.serve.pictures import StoredPictures
from fti_qdrant.serve.threads import in_thread

MOST_ITEMS = 100


def browse_routes(gallery: Gallery, pictures: StoredPictures) -> APIRouter:
    """Images as they are stored: a first impression, and the names behind ids."""
    routes = APIRouter(tags=["items"], responses=PROBLEMS)

    def first(limit: int) -> list[ShownImage]:
        return [stored_image(*one) for one in islice(gallery.scroll(limit), limit)]

    @routes.get("/items")
    async def items(limit: Annotated[int, Query(ge=1, le=MOST_ITEMS)] = 24) -> ItemsAnswer:
        """Some images, the first by id; ids are hashes, so they come from all of the gallery."""
        return ItemsAnswer(items=await in_thread(first, limit))

    @routes.get("/items/{id}")
    async def item(id: UUID) -> ShownImage:
        """One image."""
        found = await in_thread(pictures.find, id)
        return stored_image(found.id, found.payload)

    return routes
