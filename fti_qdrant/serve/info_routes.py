"""``/info``, ``/health``, ``/ready`` and ``/metrics``."""

from __future__ import annotations

from typing import Literal

import anyio
from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from pydantic import BaseModel
from starlette.responses import Response

from fti_qdrant.async_search import AsyncComposedSearch
from fti_qdrant.errors import GalleryUnavailable
from fti_qdrant.serve.documented import PROBLEMS
from fti_qdrant.serve.info import ServiceInfo, service_info
from fti_qdrant.serve.metrics import Metrics
from fti_qdrant.serve.score_profiles import ScoreProfiles
from fti_qdrant.serve.settings import ServeSettings

READY_SECONDS = 5.0
"""A gallery that takes longer to say how many images it holds is not ready."""


class Status(BaseModel):
    """Whether the service works."""

    status: Literal["ok"]


def info_routes(
    search: AsyncComposedSearch,
    settings: ServeSettings,
    scores: ScoreProfiles,
    metrics: Metrics,
    writes: bool,
) -> APIRouter:
    """What needs a key where there is one."""
    routes = APIRouter(tags=["service"], responses=PROBLEMS)

    @routes.get("/info")
    async def info() -> ServiceInfo:
        """The model, its composers, the gallery's fields, and the limits of a request."""
        return await service_info(search, settings, await scores.get(), writes)

    @routes.get(
        "/metrics",
        response_class=Response,
        responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    )
    async def figures() -> Response:
        """Counters in Prometheus' text format."""
        return Response(metrics.text(), media_type=CONTENT_TYPE_LATEST)

    return routes


def probe_routes(search: AsyncComposedSearch) -> APIRouter:
    """What an orchestrator asks, without a key."""
    routes = APIRouter(tags=["service"], responses={503: PROBLEMS[503]})

    @routes.get("/health")
    async def health() -> Status:
        """Whether the process answers."""
        return Status(status="ok")

    @routes.get("/ready")
    async def ready() -> Status:
        """Whether the gallery answers; 503 where it does not."""
        with anyio.move_on_after(READY_SECONDS):
            await search.gallery.state()
            return Status(status="ok")
        raise GalleryUnavailable(f"the gallery did not answer within {READY_SECONDS:g} s")

    return routes
