"""The options that say where a gallery is, the same for every command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from fti_qdrant.gallery.location import GalleryLocation

F = TypeVar("F", bound=Callable[..., Any])

PLACE = (
    click.option(
        "--gallery", type=click.Path(path_type=Path), help="Folder of an embedded gallery."
    ),
    click.option("--url", help="URL of a Qdrant server, such as http://localhost:6333."),
    click.option("--collection", help="Collection on the server."),
)

GRPC = (
    click.option("--grpc", is_flag=True, help="Send data to the server over gRPC."),
    click.option(
        "--grpc-port",
        envvar="QDRANT_GRPC_PORT",
        type=click.IntRange(1, 65535),
        default=6334,
        help="The server's gRPC port.  [env: QDRANT_GRPC_PORT; default: 6334]",
    ),
)


def gallery_options(command: F) -> F:
    """Adds --gallery, --url, --collection and the like; the command gets one ``location``."""
    return _with_options(command, "--api-key")


def gallery_options_of_service(command: F) -> F:
    """The same for a command whose own --api-key is that of its users."""
    return _with_options(command, "--qdrant-api-key")


def _with_options(command: F, server_key: str) -> F:
    key = click.option(
        server_key,
        "server_key",
        envvar="QDRANT_API_KEY",
        help="API key of the Qdrant server.  [env: QDRANT_API_KEY]",
    )

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        gallery: Path | None,
        url: str | None,
        collection: str | None,
        server_key: str | None,
        grpc: bool,
        grpc_port: int,
        **options: Any,
    ) -> Any:
        location = location_of(gallery, url, collection, server_key, grpc_port if grpc else None)
        return command(*args, location=location, **options)

    for option in reversed((*PLACE, key, *GRPC)):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def location_of(
    gallery: Path | None,
    url: str | None,
    collection: str | None,
    api_key: str | None,
    grpc_port: int | None = None,
) -> GalleryLocation:
    """The one location that the options name. Raises UsageError for none or more than one."""
    if (gallery is None) == (url is None) or (url is None) != (collection is None):
        raise click.UsageError("pass either --gallery DIR, or --url URL with --collection NAME")
    from fti_qdrant.gallery.location import EmbeddedLocation, ServerLocation

    if gallery is not None:
        return EmbeddedLocation(gallery)
    return ServerLocation(str(url), str(collection), api_key, grpc_port)
