"""The options that say where a gallery is, the same for every command."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fti_qdrant.errors import FtiError
from fti_qdrant.gallery.client_options import ClientOptions

if TYPE_CHECKING:
    from fti_qdrant.gallery.location import GalleryLocation, ServerLocation

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
    click.option("--prefix", help="Path of the server behind a proxy, if it is not in --url."),
    click.option(
        "--header",
        "headers",
        multiple=True,
        metavar="NAME:VALUE",
        help="HTTP header to send to the server. May be repeated.",
    ),
    click.option(
        "--timeout", type=float, help="Seconds for one request to the server.  [default: 30]"
    ),
    click.option(
        "--ca-file",
        type=click.Path(path_type=Path),
        help="PEM file of the authority that signed the server's certificate.",
    ),
)


@dataclass(frozen=True)
class GivenPlace:
    """What the options say about where a gallery is."""

    gallery: Path | None
    url: str | None
    collection: str | None
    api_key: str | None = None
    grpc_port: int | None = None
    client_options: ClientOptions = field(default_factory=ClientOptions)

    def location(self) -> GalleryLocation:
        """The one place that they name. Raises UsageError for none or more than one."""
        if (self.gallery is None) == (self.url is None) or (self.url is None) != (
            self.collection is None
        ):
            raise click.UsageError("pass either --gallery DIR, or --url URL with --collection NAME")
        from fti_qdrant.gallery.location import EmbeddedLocation

        if self.gallery is None:
            return self.on_server(str(self.collection))
        if given := self.client_options.given():
            raise click.UsageError(
                f"an embedded gallery has no server: leave out {', '.join(map(_spelled, given))}"
            )
        return EmbeddedLocation(self.gallery)

    def on_server(self, collection: str) -> ServerLocation:
        """A collection on the server that they name."""
        from fti_qdrant.gallery.location import ServerLocation

        return ServerLocation(
            str(self.url),
            collection,
            self.api_key,
            self.grpc_port,
            client_options=self.client_options,
        )


def gallery_options(command: F) -> F:
    """Adds --gallery, --url, --collection and the like; the command gets one ``location``."""
    return _with_location(command, "--api-key")


def gallery_options_of_service(command: F) -> F:
    """The same for a command whose own --api-key is that of its users."""
    return _with_location(command, "--qdrant-api-key")


def place_options(command: F, server_key: str = "--api-key") -> F:
    """The same options; the command gets one ``place``, a ``GivenPlace``, which nothing checked."""
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
        prefix: str | None,
        headers: tuple[str, ...],
        timeout: float | None,
        ca_file: Path | None,
        **options: Any,
    ) -> Any:
        try:
            chosen = ClientOptions.of(timeout, _parse_headers(headers), prefix, ca_file)
        except FtiError as error:
            raise click.UsageError(str(error)) from None
        port = grpc_port if grpc else None
        place = GivenPlace(gallery, url, collection, server_key, port, chosen)
        return command(*args, place=place, **options)

    for option in reversed((*PLACE, key, *GRPC)):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def _with_location(command: F, server_key: str) -> F:
    @functools.wraps(command)
    def located(*args: Any, place: GivenPlace, **options: Any) -> Any:
        return command(*args, location=place.location(), **options)

    return place_options(located, server_key)  # type: ignore[return-value]


def _spelled(name: str) -> str:
    """The command line's option for a field of ``ClientOptions``."""
    return f"--{name.removesuffix('s').replace('_', '-')}"


def _parse_headers(pairs: tuple[str, ...]) -> dict[str, str]:
    """``NAME:VALUE`` each; a value may contain colons."""
    headers: dict[str, str] = {}
    for pair in pairs:
        name, colon, value = pair.partition(":")
        if not colon or name.strip().lower() in headers:
            raise click.UsageError(f"--header takes NAME:VALUE, each name once, got {name!r}")
        headers[name.strip().lower()] = value.strip()
    return headers
