"""``fti-serve``: the API and the page over a gallery."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.extras import need
from fti_qdrant.cli.gallery_options import gallery_options_of_service
from fti_qdrant.cli.image_options import max_pixels_option
from fti_qdrant.cli.model_options import backend_option
from fti_qdrant.cli.program_options import program_options
from fti_qdrant.cli.replica_options import ReplicaChoice, replica_options
from fti_qdrant.cli.user_text import print_lines
from fti_qdrant.errors import FtiError
from fti_qdrant.images.limits import ImageLimits

if TYPE_CHECKING:
    from fti_qdrant.gallery.location import GalleryLocation
    from fti_qdrant.model.openvino_backend import Backend
    from fti_qdrant.query_batches import BatchLimits
    from fti_qdrant.search import ComposedSearch
    from fti_qdrant.serve.item_routes import ItemWriter
    from fti_qdrant.serve.plan import ServicePlan

UPLOADS = "uploads"
"""Folder in an embedded gallery's for the pictures that come through the API."""

LOOPBACK = ("localhost", "127.0.0.1", "::1")
"""Names of this machine for itself."""

PACKAGES = (
    *("cachetools", "fastapi", "limits", "prometheus_client"),
    *("python_multipart", "uvicorn"),
)
"""Of the extra ``serve``."""


class CannotServe(FtiError):
    """What keeps a service from starting, whatever it is: exit code 2."""


EPILOG = """\b
Examples:
  fti-serve --gallery demo/gallery
  fti-serve --url http://localhost:6333 --collection shop --host 0.0.0.0 --api-key SECRET
  fti-serve --gallery shop --allow-writes --rate 600/minute
  fti-serve --url http://qdrant:6333 --collection shop --replicas 4 --gpus-per-replica 1 \\
      --ray-address ray-head:6379

An embedded gallery belongs to one process. Over a collection on a server, several fti-serve may run
side by side: see docs/api.md.
"""


@click.command(epilog=EPILOG)
@gallery_options_of_service
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    show_default=True,
    help="Port to listen at; 0 takes a free one.",
)
@click.option(
    "--api-key",
    "keys",
    envvar="FTI_SERVE_API_KEY",
    multiple=True,
    help="Key that requests must send as X-API-Key; may be repeated.  [env: FTI_SERVE_API_KEY]",
)
@click.option("--allow-writes", is_flag=True, help="Let requests add and delete images.")
@click.option(
    "--uploads",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for pictures that come with --allow-writes.  [default: GALLERY/uploads]",
)
@click.option("--allow-urls", is_flag=True, help="Let references be URLs of public servers.")
@click.option(
    "--cors-origin",
    "cors_origins",
    multiple=True,
    help="Let pages of this origin use the API, such as https://shop.example; may be repeated.",
)
@click.option(
    "--allow-host",
    "hosts",
    multiple=True,
    help="Name that the service goes by, as behind a proxy; may be repeated.  [default: any; on "
    "this machine alone and without --api-key, those of this machine]",
)
@click.option(
    "--rate", help="Most requests of each key, or of each address without keys: 600/minute."
)
@click.option(
    "--rate-storage",
    default="async+memory://",
    show_default=True,
    help="Where requests are counted; async+redis://HOST for several processes together.",
)
@click.option(
    "--max-body",
    type=click.IntRange(min=1),
    default=32_000_000,
    show_default=True,
    help="Most bytes of a request.",
)
@click.option(
    "--max-seconds",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    show_default=True,
    help="Most seconds from a request's first byte to its answer.",
)
@click.option(
    "--max-requests",
    type=click.IntRange(min=1),
    default=256,
    show_default=True,
    help="Most requests at a time; others are asked to come back.",
)
@max_pixels_option
@click.option("--no-page", is_flag=True, help="Serve the API alone.")
@click.option("--model", help="[default: the model that the gallery was made with]")
@click.option(
    "--inverter",
    help="fti4cir, a folder, a checkpoint file or ORG/REPO on the hub; mini has its own.",
)
@backend_option
@replica_options
@program_options("fti-serve")
@one_line_errors(after_stop="nothing was changed")
def main(
    location: GalleryLocation,
    host: str,
    port: int,
    keys: tuple[str, ...],
    allow_writes: bool,
    uploads: Path | None,
    allow_urls: bool,
    cors_origins: tuple[str, ...],
    hosts: tuple[str, ...],
    rate: str | None,
    rate_storage: str,
    max_body: int,
    max_seconds: float,
    max_requests: int,
    max_pixels: int,
    no_page: bool,
    model: str | None,
    inverter: str | None,
    backend: Backend,
    batching: BatchLimits,
    replicas: ReplicaChoice,
) -> None:
    """Serve composed search over HTTP: an API, and a page to use it in a browser.

    By default it listens on this machine alone, reads and does not write, and fetches no URLs.
    """
    for package in PACKAGES:
        need(package, "serve")
    from fti_qdrant.serve.plan import ServicePlan
    from fti_qdrant.serve.security import Access
    from fti_qdrant.serve.settings import ServeSettings

    settings = ServeSettings(
        api_keys=keys,
        hosts=hosts or (LOOPBACK if host in LOOPBACK and not keys else ()),
        cors_origins=cors_origins,
        max_body=max_body,
        max_seconds=max_seconds,
        max_requests=max_requests,
        rate=rate,
        rate_storage=rate_storage,
        page=not no_page,
    )
    Access(settings)  # what is wrong with the options is said before a model is loaded
    replicas.check(allow_writes)
    folder = uploads_folder(location, uploads) if allow_writes else None
    plan = ServicePlan(
        location,
        settings,
        model=model,
        inverter=inverter,
        backend=backend,
        allow_urls=allow_urls,
        limits=ImageLimits(max_pixels=max_pixels),
        batching=batching,
    )
    if replicas.count is not None:
        _serve_replicas(plan, replicas, host, port)
        return
    with listener(host, port) as listening, opened(plan) as search:
        _serve(search, plan, folder, listening, host)


def opened(plan: ServicePlan) -> ComposedSearch:
    """The search that is served. Raises CannotServe."""
    try:
        return plan.open()
    except FtiError as error:
        raise CannotServe(str(error)) from error


def _serve_replicas(plan: ServicePlan, replicas: ReplicaChoice, host: str, port: int) -> None:
    """The gallery is opened once here, for its errors. Raises CannotServe."""
    try:
        plan.location.open().close()
        listener(host, port).close()  # Ray would try other ports
        replicas.serve(plan, host, port)
    except FtiError as error:
        raise CannotServe(str(error)) from error


def uploads_folder(location: GalleryLocation, chosen: Path | None) -> Path:
    """Where the pictures go. Raises UsageError where it must be named."""
    from fti_qdrant.gallery.location import EmbeddedLocation

    if chosen is not None:
        return chosen
    if isinstance(location, EmbeddedLocation):
        return location.path / UPLOADS
    raise click.UsageError("--allow-writes with --url needs --uploads, a folder for the pictures")


def listener(host: str, port: int) -> socket.socket:
    """A socket that listens, so that its port is ours before a model is loaded.

    Raises FtiError where it cannot.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address[:2], family=family, backlog=2048)
    except (OSError, UnicodeError) as error:
        number = getattr(error, "errno", None) or 0
        reason = os.strerror(number) if number > 0 else str(error)  # a resolver's are negative
        raise FtiError(
            f"cannot listen at {host}:{port} ({reason}); choose another --port or --host"
        ) from None


def _serve(
    search: ComposedSearch,
    plan: ServicePlan,
    uploads: Path | None,
    listening: socket.socket,
    host: str,
) -> None:
    from fti_ingest.run.items import ItemIngest
    from fti_qdrant.serve.server import run

    writer: ItemWriter | None = None if uploads is None else ItemIngest(search, uploads)
    app = plan.app(search, writer)
    port = listening.getsockname()[1]
    shown = f"[{host}]" if ":" in host else host
    if not plan.settings.api_keys and (uploads is not None or host not in LOOPBACK):
        what = "search" if uploads is None else "search and write"
        who = f"anybody who reaches port {port} of this machine"
        print_lines(f"warning: {who} can {what}; set --api-key", err=True)
    print_lines(f"open http://{shown}:{port}/ (Ctrl-C stops it)", err=True)
    run(app, listening, plan.settings)


if __name__ == "__main__":
    main()
