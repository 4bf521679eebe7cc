"""``/images/{id}`` and its thumbnail: cached for long, and answered by 304 where they are known."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.responses import Response

from fti_qdrant.gallery import StoredImage
from fti_qdrant.serve.documented import PICTURE, PROBLEMS
from fti_qdrant.serve.metrics import Metrics
from fti_qdrant.serve.pictures import (
    LARGEST,
    SMALLEST,
    USUAL,
    Picture,
    StoredPictures,
    content_version,
    thumbnail_version,
)
from fti_qdrant.serve.schemas import IdInPath

CACHED = "max-age=86400, stale-while-revalidate=604800"
"""A day, and for a week while a new copy is fetched: a key may be ingested again."""


def image_routes(pictures: StoredPictures, metrics: Metrics, shared: bool) -> APIRouter:
    """Args:
    shared: caches of others may keep the pictures too: there are no keys.
    """
    routes = APIRouter(tags=["images"])
    cache_control = f"{'public' if shared else 'private'}, {CACHED}"

    async def answered(
        request: Request,
        id: IdInPath,
        version: Callable[[StoredImage], str],
        make: Callable[[StoredImage], Awaitable[Picture]],
    ) -> Response:
        headers = {"Cache-Control": cache_control}
        with metrics.stage("picture"):
            image = await pictures.find(id)
            stored = version(image)
            if stored and _is_known(request, stored):  # and nothing is read
                return Response(status_code=304, headers={**headers, "ETag": f'"{stored}"'})
            picture = await make(image)
        headers["ETag"] = f'"{picture.version}"'
        if _is_known(request, picture.version):
            return Response(status_code=304, headers=headers)
        headers["Content-Disposition"] = f'inline; filename="{id}"'
        return Response(picture.data, media_type=picture.media_type, headers=headers)

    @routes.get("/images/{id}", responses=PICTURE | PROBLEMS, response_class=Response)
    async def image(request: Request, id: IdInPath) -> Response:
        """The picture of an image as it was ingested."""
        return await answered(request, id, content_version, pictures.original)

    @routes.get("/images/{id}/thumbnail", responses=PICTURE | PROBLEMS, response_class=Response)
    async def thumbnail(
        request: Request,
        id: IdInPath,
        size: Annotated[
            int, Query(ge=SMALLEST, le=LARGEST, description="Its longer side, in pixels.")
        ] = USUAL,
    ) -> Response:
        """The picture of an image, small, upright and as WebP."""
        return await answered(
            request,
            id,
            lambda image: thumbnail_version(image, size),
            lambda image: pictures.thumbnail(image, size),
        )

    return routes


def _is_known(request: Request, version: str) -> bool:
    """Whether the client holds this version (If-None-Match)."""
    held = request.headers.get("if-none-match", "")
    tags = [tag.strip().removeprefix("W/") for tag in held.split(",")]
    return f'"{version}"' in tags or held.strip() == "*"
