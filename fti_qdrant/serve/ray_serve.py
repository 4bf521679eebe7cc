"""The service as a deployment of Ray Serve: replicas with a model each, behind one address.

    serve deploy deploy/serve.yaml

Each replica gathers queries by ``QueryBatches``, as a single process does, and not by
``@serve.batch``: that one makes a lonely query wait for its whole timeout, holds no bound of its
own, and fails all queries of a batch with one. ``python -m bench.batching`` compares the two.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from ray import serve
from ray.serve.config import HTTPOptions

from fti_qdrant.errors import BadQuery, GalleryUnavailable, first_line
from fti_qdrant.gallery.client_options import ClientOptions
from fti_qdrant.gallery.location import EmbeddedLocation, ServerLocation
from fti_qdrant.images.limits import DEFAULT_LIMITS, ImageLimits
from fti_qdrant.query_batches import BatchLimits
from fti_qdrant.serve.plan import ServicePlan
from fti_qdrant.serve.settings import ServeSettings

if TYPE_CHECKING:
    from fastapi import FastAPI

NAME = "fti-qdrant"
"""Of the application and its deployment."""

KEYS = "FTI_SERVE_API_KEY"
"""Environment variable of the replicas: API keys of the service, separated by spaces."""

START_TRIES = 3
"""A replica that cannot start so many times, as without its model, ends the deployment."""

HEALTH_SECONDS = 10
"""Between two checks of a replica."""


@dataclass(frozen=True)
class Replicas:
    """How many processes hold a model, and on what.

    Attributes:
        gpus: share of a GPU for each.
        cpus: cores for each; its model uses all that it finds.

    Raises BadQuery: a number out of range.
    """

    count: int = 1
    gpus: float = 0.0
    cpus: float = 1.0

    def __post_init__(self) -> None:
        if self.count < 1:
            raise BadQuery(f"replicas must be at least 1, got {self.count}")
        for name in ("gpus", "cpus"):
            if not getattr(self, name) >= 0:
                raise BadQuery(f"{name} for each replica must be 0 or more, got {self.gpus}")


def deployment(plan: ServicePlan, replicas: Replicas) -> serve.Application:
    """The service of a plan as an application of Ray Serve.

    Raises BadQuery for several replicas of an embedded gallery, which belongs to one process.
    """
    if isinstance(plan.location, EmbeddedLocation) and replicas.count > 1:
        raise BadQuery(
            f"{replicas.count} replicas cannot open one embedded gallery; ingest into a collection "
            "on a Qdrant server (--url, --collection), or run one replica"
        )

    def build() -> FastAPI:
        """In the replica."""
        return plan.app(plan.open())

    deployed = serve.deployment(
        name=NAME,
        num_replicas=replicas.count,
        ray_actor_options={"num_cpus": replicas.cpus, "num_gpus": replicas.gpus},
        # the app itself refuses what is too much, with Retry-After and its own message
        max_ongoing_requests=plan.settings.max_requests + 1,
        max_constructor_retry_count=START_TRIES,
        health_check_period_s=HEALTH_SECONDS,
    )
    return deployed(serve.ingress(build)()).bind()


def start(plan: ServicePlan, replicas: Replicas, host: str, port: int) -> None:
    """Serves from the Ray that this process has joined; returns when all replicas are ready.

    Raises BadQuery as ``deployment``, GalleryUnavailable where the replicas do not start.
    """
    application = deployment(plan, replicas)
    serve.start(http_options=HTTPOptions(host=host, port=port))
    try:
        serve.run(application, name=NAME, route_prefix="/")
    except Exception as error:  # RuntimeError with the log of the replica
        raise GalleryUnavailable(
            f"the replicas do not start ({_reason(error)}); "
            "`serve status` and the logs of Ray say more"
        ) from error


def stop(*, alone: bool) -> None:
    """Ends the service.

    Args:
        alone: the Ray is ours, and Serve has nothing else to do there.
    """
    if alone:
        serve.shutdown()
    else:
        serve.delete(NAME)


def application(options: ReplicaOptions) -> serve.Application:
    """What ``import_path`` of a Serve config file names; its ``args`` are the options."""
    return deployment(options.plan(), Replicas(options.replicas, options.gpus, options.cpus))


class ReplicaOptions(BaseModel):
    """The ``args`` of a config file. Secrets come from the environment of the replicas.

    ``QDRANT_API_KEY`` is the server's key, and ``FTI_SERVE_API_KEY`` holds those of the service,
    separated by spaces.
    """

    model_config = ConfigDict(extra="forbid")

    url: str
    collection: str
    grpc_port: int | None = Field(None, ge=1, le=65535)
    prefix: str | None = None
    timeout: float | None = None
    ca_file: str | None = None
    model: str | None = None
    inverter: str | None = None
    precision: Literal["fp32", "bf16", "fp16"] | None = None
    backend: Literal["torch", "openvino"] = "torch"
    allow_urls: bool = False
    max_pixels: int = Field(DEFAULT_LIMITS.max_pixels, ge=1)
    replicas: int = 1
    gpus: float = 0.0
    cpus: float = 1.0
    max_batch: int = BatchLimits.max_batch
    max_queue: int = BatchLimits.max_queue
    max_wait: float = BatchLimits.max_wait
    max_body: int = ServeSettings.max_body
    max_seconds: float = ServeSettings.max_seconds
    max_requests: int = ServeSettings.max_requests
    cors_origins: tuple[str, ...] = ()
    rate: str | None = None
    rate_storage: str = ServeSettings.rate_storage
    page: bool = True

    def plan(self) -> ServicePlan:
        """Raises FtiError: see ``ClientOptions``, ``BatchLimits`` and ``ServeSettings``."""
        given = self.model_dump(include={"max_body", "max_seconds", "max_requests", "rate", "page"})
        settings = ServeSettings(
            api_keys=tuple(os.environ.get(KEYS, "").split()),
            cors_origins=self.cors_origins,
            rate_storage=self.rate_storage,
            **given,
        )
        options = ClientOptions.of(self.timeout, None, self.prefix, self.ca_file)
        return ServicePlan(
            ServerLocation(
                self.url, self.collection, grpc_port=self.grpc_port, client_options=options
            ),
            settings,
            model=self.model,
            inverter=self.inverter,
            precision=self.precision,
            backend=self.backend,
            allow_urls=self.allow_urls,
            limits=ImageLimits(max_pixels=self.max_pixels),
            batching=BatchLimits(self.max_batch, self.max_queue, self.max_wait),
        )


def _reason(error: BaseException) -> str:
    """The last line of a replica's traceback that names an error of ours, else the first line."""
    lines = [line.strip() for line in str(error).splitlines()]
    ours: list[Any] = [line for line in lines if line.startswith("fti_qdrant.errors.")]
    return str(ours[-1]) if ours else first_line(error)
