"""Clients of a Qdrant server, tested before use: the constructor does not contact the server."""

from __future__ import annotations

import os
import warnings
from typing import Any

from qdrant_client import QdrantClient

from fti_qdrant.errors import FtiError, GalleryUnavailable
from fti_qdrant.gallery.server_capabilities import ServerCapabilities
from fti_qdrant.gallery.server_errors import retrying, translated

TIMEOUT = 30
"""Timeout of one request, in seconds."""


def connect(
    url: str,
    api_key: str | None = None,
    timeout: int = TIMEOUT,
    grpc_port: int | None = None,
    patience: float = 0,
) -> QdrantClient:
    """A client whose server has answered.

    Args:
        url: such as ``http://localhost:6333``; ``:memory:`` is qdrant-client's local mode.
        api_key: by default the environment's ``QDRANT_API_KEY``.
        grpc_port: data is sent by gRPC, to this port of the server (Qdrant's default is 6334).
        patience: seconds to wait for a server that does not answer.

    For an ``https`` server with your own certificate, name the certificate authority's file in the
    environment (on a Ray cluster, of every machine): ``SSL_CERT_FILE``, and
    ``GRPC_DEFAULT_SSL_ROOTS_FILE_PATH`` for gRPC.

    Raises GalleryUnavailable: malformed URL, no server, access refused, or a server that is older
    than the searches that all else is made of.
    """
    if url == ":memory:":
        return QdrantClient(url)
    if not url.startswith(("http://", "https://")):
        raise GalleryUnavailable(
            f"{url!r} is not a server's address; pass one such as http://localhost:6333"
        )
    key = api_key or os.environ.get("QDRANT_API_KEY") or None
    with translated(f"server {url}"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Api key is used with an insecure connection")
        client = QdrantClient(url=url, api_key=key, timeout=timeout, **client_options(grpc_port))
        retrying(client.get_collections, patience)()
        ServerCapabilities.of(client).require("queries", f"server {url}")
    return client


def client_options(grpc_port: int | None) -> dict[str, Any]:
    """Options of all our clients beside the address; ``grpc_port`` as for ``connect``."""
    options = {"check_compatibility": False, "prefer_grpc": grpc_port is not None}
    return {**options, **({} if grpc_port is None else {"grpc_port": grpc_port})}


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


def url_of(client: QdrantClient) -> str:
    return client.init_options.get("url") or client.init_options.get("location") or "local"
