"""A service before anything is loaded: what it searches, by which model, and how."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from fti_qdrant.gallery.location import GalleryLocation
from fti_qdrant.images.limits import DEFAULT_LIMITS, ImageLimits
from fti_qdrant.query_batches import BatchLimits
from fti_qdrant.serve.settings import ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from fti_qdrant.model.openvino_backend import Backend
    from fti_qdrant.search import ComposedSearch
    from fti_qdrant.serve.item_routes import ItemWriter


@dataclass(frozen=True)
class ServicePlan:
    """Everything that makes a service; can be sent to other processes.

    Attributes:
        model, inverter, device, precision, backend: as for ``ComposedSearch.open``.
        allow_urls: whether references may be URLs of public servers. Paths never are references.
        limits: of each picture.
        batching: how queries are gathered.
    """

    location: GalleryLocation
    settings: ServeSettings = field(default_factory=ServeSettings)
    model: str | None = None
    inverter: str | None = None
    device: str | None = None
    precision: str | None = None
    backend: Backend = "torch"
    allow_urls: bool = False
    limits: ImageLimits = DEFAULT_LIMITS
    batching: BatchLimits = field(default_factory=BatchLimits)

    def open(self) -> ComposedSearch:
        """Opens the gallery and loads the model. Raises as ``ComposedSearch.over``."""
        from fti_qdrant.search import ComposedSearch

        return ComposedSearch.over(
            self.location.open(),
            model=self.model,
            inverter=self.inverter,
            device=self.device,
            precision=self.precision,
            backend=self.backend,
            allow_urls=self.allow_urls,
            allow_paths=False,
            limits=self.limits,
        )

    def app(self, search: ComposedSearch, writer: ItemWriter | None = None) -> FastAPI:
        """The service over an open search, which stays the caller's to close."""
        from fti_qdrant.async_search import AsyncComposedSearch
        from fti_qdrant.serve.app import create_app

        batched = AsyncComposedSearch(
            search,
            max_batch=self.batching.max_batch,
            max_queue=self.batching.max_queue,
            max_wait=self.batching.max_wait,
        )
        return create_app(batched, self.settings, writer=writer)
