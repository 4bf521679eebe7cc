"""``create_app``: the routes, and what stands around all of them."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import Depends, FastAPI
from starlette.middleware.cors import CORSMiddleware

from fti_qdrant.async_search import AsyncComposedSearch
from fti_qdrant.errors import FtiError
from fti_qdrant.serve.browse_routes import browse_routes
from fti_qdrant.serve.documented import document
from fti_qdrant.serve.guard import RequestGuard
from fti_qdrant.serve.held import BODIES_HELD, Held
from fti_qdrant.serve.image_routes import image_routes
from fti_qdrant.serve.info_routes import info_routes, probe_routes
from fti_qdrant.serve.item_routes import ItemWriter, item_routes
from fti_qdrant.serve.metrics import Metrics
from fti_qdrant.serve.page_files import PageFiles
from fti_qdrant.serve.pictures import StoredPictures
from fti_qdrant.serve.problems import add_problems
from fti_qdrant.serve.score_profiles import ScoreProfiles
from fti_qdrant.serve.search_routes import search_routes
from fti_qdrant.serve.security import KEY_HEADER, Access, BrowserRules
from fti_qdrant.serve.settings import ServeSettings
from fti_qdrant.serve.url_pictures import UrlPictures
from fti_qdrant.version import __version__

DESCRIPTION = """Reference images and a text that says what to change find images in a gallery.

`POST /search` takes JSON, or multipart with the JSON in the field `query` and pictures as files.
Errors are problem details (RFC 9457)."""

logger = logging.getLogger(__name__)


def create_app(
    search: AsyncComposedSearch,
    settings: ServeSettings | None = None,
    *,
    writer: ItemWriter | None = None,
) -> FastAPI:
    """The service over a search, which stays the caller's to close.

    Args:
        writer: stores and deletes images; None leaves the gallery as it is.

    Raises FtiError where the settings do not hold together.
    """
    settings = settings or ServeSettings()
    metrics, access = Metrics(), Access(settings)
    held = Held(BODIES_HELD * settings.max_body)
    opened = search.search
    urls = UrlPictures(opened.allow_urls, opened.limits, settings.max_body, held)
    search.observer = metrics
    metrics.watch_queue(lambda: search.waiting)
    scores = ScoreProfiles(search)
    pictures = StoredPictures(search.gallery, opened.limits, settings.max_thumbnails)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            await scores.get()  # warms the model up, too
        except FtiError as error:  # /ready says so, for as long as it lasts
            logger.warning("the gallery does not answer: %s", error)
        yield

    app = FastAPI(
        title="fti-qdrant",
        version=__version__,
        description=DESCRIPTION,
        docs_url=None,  # these pages load scripts from others
        redoc_url=None,
        lifespan=lifespan,
    )
    for routes in (
        search_routes(search, urls, access, metrics),
        image_routes(pictures, metrics, shared=not settings.api_keys),
        browse_routes(search.gallery, pictures),
        item_routes(writer, access),
        info_routes(search, settings, scores, metrics, writer is not None),
    ):
        app.include_router(routes, dependencies=[Depends(access.check_key)])
    app.include_router(probe_routes(search))
    if settings.page:
        # of a mount at /, a wrong method of a route would be a file that is not there
        app.router.default = PageFiles()
    add_problems(app, (search.gallery.name, search.gallery.address))
    document(app)
    app.add_middleware(RequestGuard, settings=settings, metrics=metrics, held=held)
    if settings.cors_origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.cors_origins,
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["Content-Type", "Authorization", KEY_HEADER],
            expose_headers=["ETag", "Retry-After"],
        )
    app.add_middleware(BrowserRules, settings=settings)
    return app
