"""Clients of a Qdrant server, tested before use: the constructor does not contact the server."""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any

from qdrant_client import AsyncQdrantClient, QdrantClient

from fti_qdrant.errors import FtiError
from fti_qdrant.gallery.client_options import ClientOptions, check_address
from fti_qdrant.gallery.server_capabilities import ServerCapabilities
from fti_qdrant.gallery.server_errors import retrying, translated


def connect(
    url: str,
    api_key: str | None = None,
    timeout: float | None = None,
    grpc_port: int | None = None,
    patience: float = 0,
    options: ClientOptions = ClientOptions(),  # noqa: B008  (frozen)
) -> QdrantClient:
    """A client whose server has answered.

    Args:
        url: such as ``http://localhost:6333``; ``:memory:`` is qdrant-client's local mode. Without
            a port it is 6333, also for ``https``: behind a proxy write ``https://host:443/prefix``.
        api_key: by default the environment's ``QDRANT_API_KEY``.
        timeout: seconds for one request; by default that of the options.
        grpc_port: data is sent by gRPC, to this port of the server (Qdrant's default is 6334).
        patience: seconds to wait for a server that does not answer.
        options: timeout, headers, prefix and certificates.

    Raises GalleryUnavailable: malformed URL or options, no server, access refused, or a server that
    is older than the searches that all else is made of.
    """
    if url == ":memory:":
        return QdrantClient(url)
    chosen = options if timeout is None else replace(options, timeout=timeout)
    check_address(url, chosen)
    key = api_key or os.environ.get("QDRANT_API_KEY") or None
    with translated(f"server {url}"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        client = QdrantClient(
            url=url.rstrip("/"), api_key=key, **client_arguments(chosen, grpc_port)
        )
        try:
            retrying(client.get_collections, patience)()
            ServerCapabilities.of(client).require("queries", f"server {url}")
        except BaseException:
            client.close()
            raise
    return client


def client_arguments(options: ClientOptions, grpc_port: int | None) -> dict[str, Any]:
    """What all our clients are made with beside the address and the key.

    Args:
        grpc_port: as for ``connect``.
    """
    arguments: dict[str, Any] = {
        "check_compatibility": False,
        "timeout": options.timeout,
        "prefer_grpc": grpc_port is not None,
    }
    if grpc_port is not None:
        arguments["grpc_port"] = grpc_port
    if options.headers:
        arguments["headers"] = dict(options.headers)
    if options.prefix:
        arguments["prefix"] = options.prefix
    if options.ca_file:
        arguments |= options.certificates(grpc=grpc_port is not None)
    return arguments


def collection_of(client: QdrantClient, name: str, patience: float | None = None) -> str:
    """The collection that an alias stands for; a collection's own name stays as it is.

    An open gallery keeps to its collection: where the alias is switched to another one, of another
    model, its vectors would be compared with that one's.

    Args:
        patience: seconds to wait for a server that does not answer.
    """
    try:
        with translated(f"aliases of {url_of(client)}"):
            aliases = retrying(client.get_aliases, patience or 0)().aliases
    except FtiError:  # a key that may not list them: the server follows the alias by itself
        return name
    return {one.alias_name: one.collection_name for one in aliases}.get(name, name)


def gallery_name(client: QdrantClient, collection: str) -> str:
    """``collection 'name' at http://...``, for messages."""
    return f"collection {collection!r} at {url_of(client)}"


def url_of(client: QdrantClient | AsyncQdrantClient) -> str:
    """The address that a client was made with; ``local`` for qdrant-client's local mode."""
    made_with = client.init_options
    address = made_with.get("url") or made_with.get("location")
    if address:
        return str(address)
    if made_with.get("path"):
        return "local"
    host = made_with.get("host") or "localhost"
    scheme = "https" if made_with.get("https") or made_with.get("api_key") else "http"
    port = "" if made_with.get("port") is None else f":{made_with['port']}"
    prefix = str(made_with.get("prefix") or "").strip("/")
    return f"{scheme}://{host}{port}" + (f"/{prefix}" if prefix else "")
