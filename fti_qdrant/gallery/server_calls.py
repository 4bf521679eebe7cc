"""Calls of a Qdrant server for one collection: errors, retries, and what the server can do."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from qdrant_client import QdrantClient, models

from fti_qdrant.errors import GalleryNotFound, GalleryUnavailable
from fti_qdrant.gallery.calibration import Calibration
from fti_qdrant.gallery.points import GallerySpec
from fti_qdrant.gallery.protocol import after_fork
from fti_qdrant.gallery.request_limits import RequestLimits
from fti_qdrant.gallery.server_capabilities import ServerCapabilities
from fti_qdrant.gallery.server_errors import retrying, translated
from fti_qdrant.gallery.server_refusals import Asked

if TYPE_CHECKING:
    from typing_extensions import Self

T = TypeVar("T")


class ServerCalls:
    """A client for one collection.

    Attributes:
        owns_client: whether ``close`` closes the client; False for one that belongs to the user.
        patience: seconds to wait for a server that does not answer; None retries uploads a few
            times.
        alias: the alias that the collection was opened by.
        attached: it is searched as another program made it, and nothing is written into it.
        calibration: as the collection stored it when it was opened.
    """

    def __init__(self, client: QdrantClient, collection: str, spec: GallerySpec, name: str):
        self.client = client
        self.owns_client = True
        self.collection = collection
        self.spec = spec
        self.name = name
        self.patience: float | None = None
        self.alias: str | None = None
        self.attached = False
        self.calibration = Calibration()
        self._closed = False
        self._pid = os.getpid()

    @cached_property
    def able(self) -> ServerCapabilities:
        return ServerCapabilities.of(self.client)

    @cached_property
    def limits(self) -> RequestLimits:
        """What requests to the collection keep to."""
        info = self._call(self._repeated(self.client.get_collection), self.collection)
        return RequestLimits.of(info.config, self.spec.layout.image_vector)

    def index_command(self, field: str, kind: str) -> str:
        return f"QdrantClient(URL).create_payload_index({self.collection!r}, {field!r}, {kind!r})"

    def close(self) -> None:
        if not self._closed and os.getpid() == self._pid:  # of a fork, it is the parent's
            self._closed = True
            if self.owns_client:
                self.client.close()

    def check_open(self) -> None:
        if os.getpid() != self._pid:
            raise after_fork(self.name)
        if self._closed:
            raise GalleryUnavailable(f"{self.name} is closed; connect again")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _info(self) -> models.CollectionInfo:
        return self._call(self.client.get_collection, self.collection)

    def _call(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """Asks the server for something that we want to know."""
        return self._asked("read", function, *args, **options)

    def _search(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """The same for a user's query."""
        return self._asked("search", function, *args, **options)

    def _write(self, function: Callable[..., T], *args: Any, **options: Any) -> T:
        """The same for a change."""
        return self._asked("write", function, *args, **options)

    def _repeated(self, function: Callable[..., T]) -> Callable[..., T]:
        """The same, tried a few times also where nobody asked for patience: of uploads."""
        return retrying(function) if self.patience is None else function

    def _asked(self, what: Asked, function: Callable[..., T], *args: Any, **options: Any) -> T:
        self.check_open()
        try:
            with translated(self.name, what, self.index_command):
                if self.patience is not None:  # every call of a gallery may safely be repeated
                    function = retrying(function, self.patience)
                return function(*args, **options)
        except GalleryNotFound as error:
            if self.alias is None:
                raise
            raise GalleryNotFound(
                f"{error}; alias {self.alias!r} stood for it when this gallery was opened: open "
                "it again"
            ) from None
