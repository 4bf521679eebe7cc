"""Which client reaches a collection: the user's own, ours for an address, or local mode's.

A client that the user gives is used as it is, with its timeouts and headers, and is never closed by
us. What we make, we close.

| given | used |
|---|---|
| a ``QdrantClient`` | that one; ``AsyncComposedSearch`` makes its asynchronous twin of it |
| an ``AsyncQdrantClient`` | that one, by ``AsyncComposedSearch`` alone |
| ``http://``, ``https://`` | a client of ours, by REST or gRPC |
| ``:memory:``, the folder of a local mode | a client of ours, in qdrant-client's local mode |
"""

from __future__ import annotations

import json
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdrant_client import AsyncQdrantClient, QdrantClient

from fti_qdrant.errors import GalleryUnavailable, first_line
from fti_qdrant.gallery.client_options import ClientOptions
from fti_qdrant.gallery.edge_folder import SPEC_FILE
from fti_qdrant.gallery.other_folders import LOCAL_MODE_FILE
from fti_qdrant.gallery.server import ServerGallery
from fti_qdrant.gallery.server_connection import connect

ClientSource = str | os.PathLike[str] | QdrantClient
"""An address, the folder of a local mode, or a client."""


@dataclass(frozen=True)
class ChosenClient:
    """A client, and whether it is ours to close."""

    client: QdrantClient
    ours: bool

    def close(self) -> None:
        """Closes it, if it is ours."""
        if self.ours:
            self.client.close()


def choose_client(
    source: ClientSource,
    *,
    api_key: str | None = None,
    grpc_port: int | None = None,
    options: ClientOptions = ClientOptions(),  # noqa: B008  (frozen)
    patience: float = 0,
) -> ChosenClient:
    """The client for what a user gives; a server has answered.

    Args:
        source: see the module.
        api_key, grpc_port, options, patience: of a client that we make, as ``connect`` takes them.

    Raises GalleryUnavailable: none of these, options beside a client that has its own, no server,
    or access refused.
    """
    if isinstance(source, AsyncQdrantClient):
        raise GalleryUnavailable(
            "an AsyncQdrantClient cannot answer a synchronous search; use "
            "AsyncComposedSearch.connect, or pass a QdrantClient or a URL"
        )
    given = options.given()
    given += [name for name, value in (("api_key", api_key), ("grpc_port", grpc_port)) if value]
    if isinstance(source, QdrantClient):
        check_no_options(source, given)
        return ChosenClient(source, ours=False)
    if not isinstance(source, (str, os.PathLike)):
        raise GalleryUnavailable(
            f"{source!r} is neither a client nor an address; pass a QdrantClient, or a URL such as "
            "http://localhost:6333"
        )
    address = os.fspath(source)
    if address and not address.startswith((":memory:", "http://", "https://")):
        folder = Path(address)
        if folder.is_dir():
            check_no_options(address, given)
            return ChosenClient(_local_mode(folder), ours=True)
    client = connect(address, api_key, grpc_port=grpc_port, patience=patience, options=options)
    return ChosenClient(client, ours=True)


def open_collection(source: ClientSource, collection: str, **options: Any) -> ServerGallery:
    """A collection of ours, by any client.

    Args:
        options: as for ``choose_client``.

    Raises GalleryUnavailable, GalleryNotFound.
    """
    chosen = choose_client(source, **options)
    try:
        gallery = ServerGallery.open(chosen.client, collection)
    except BaseException:
        chosen.close()
        raise
    gallery.owns_client = chosen.ours
    return gallery


def is_local(client: QdrantClient | AsyncQdrantClient) -> bool:
    """Whether a client is in qdrant-client's local mode, in memory or in a folder."""
    made_with = client.init_options
    return made_with.get("location") == ":memory:" or made_with.get("path") is not None


def asynchronous_twin(client: QdrantClient) -> AsyncQdrantClient | None:
    """An ``AsyncQdrantClient`` with the options of a synchronous one, for the running event loop.

    None where there can be none: a local mode's data is in its one client, and a subclass may do
    more than its options say.
    """
    if type(client) is not QdrantClient or is_local(client):
        return None
    made_with = {**client.init_options, "check_compatibility": False}
    if made_with.get("grpc_options"):  # the client has written its own name into the user's
        made_with["grpc_options"] = {
            name: value
            for name, value in made_with["grpc_options"].items()
            if name != "grpc.primary_user_agent"
        }
    with warnings.catch_warnings():  # what there is to say, the first client has said
        warnings.simplefilter("ignore")
        return AsyncQdrantClient(**made_with)


def check_no_options(source: object, given: list[str]) -> None:
    """Raises GalleryUnavailable where options are given beside a client that has its own."""
    if given:
        what = "a local mode has none" if isinstance(source, str) else "the client has its own"
        raise GalleryUnavailable(f"{', '.join(given)}: {what}; leave it out, or pass a URL")


def _local_mode(folder: Path) -> QdrantClient:
    """A client of an existing folder; qdrant-client would make a folder that is not there."""
    if (folder / SPEC_FILE).exists():
        raise GalleryUnavailable(
            f"{str(folder)!r} is an embedded gallery, which has no client; open it with "
            f"ComposedSearch.open({str(folder)!r})"
        )
    if not (folder / LOCAL_MODE_FILE).exists():
        raise GalleryUnavailable(
            f"{str(folder)!r} is neither a server's address nor a folder of qdrant-client's local "
            f"mode (no {LOCAL_MODE_FILE} in it); pass a URL such as http://localhost:6333"
        )
    try:
        return QdrantClient(path=str(folder), force_disable_check_same_thread=True)
    except (RuntimeError, ValueError, OSError, KeyError, json.JSONDecodeError) as error:
        raise GalleryUnavailable(
            f"the local mode in {str(folder)!r} cannot be opened ({first_line(error)})"
        ) from error
