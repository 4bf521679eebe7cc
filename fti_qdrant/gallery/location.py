"""Where a gallery is, before it is opened: a folder, or a collection on a server."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from fti_qdrant.gallery.client_options import TIMEOUT, ClientOptions
from fti_qdrant.gallery.collection_config import CollectionConfig
from fti_qdrant.gallery.points import GallerySpec

if TYPE_CHECKING:  # a location is loaded quickly; its gallery, and that one's client, on use
    from qdrant_client import QdrantClient

    from fti_qdrant.gallery.edge import EdgeGallery
    from fti_qdrant.gallery.server import ServerGallery


@dataclass(frozen=True)
class EmbeddedLocation:
    """An embedded gallery's folder."""

    path: Path

    def open(self) -> EdgeGallery:
        """Raises GalleryNotFound, GalleryUnavailable."""
        from fti_qdrant.gallery.edge import EdgeGallery

        return EdgeGallery.open(self.path)

    def create(self, spec: GallerySpec) -> EdgeGallery:
        """Raises GalleryUnavailable."""
        from fti_qdrant.gallery.edge import EdgeGallery

        return EdgeGallery.create(self.path, spec)

    def options(self) -> list[str]:
        """The options of the command lines for this gallery."""
        return ["--gallery", str(self.path)]


@dataclass(frozen=True)
class ServerLocation:
    """A collection on a Qdrant server; can be sent to other processes.

    Attributes:
        api_key: by default the environment's ``QDRANT_API_KEY``.
        grpc_port: data is sent by gRPC, to this port.
        patience: seconds to wait for a server that is gone after it has once answered.
        client_options: timeout, headers, prefix and certificates.
        patience_at_start: seconds to wait for its first answer.
    """

    url: str
    collection: str
    api_key: str | None = field(default=None, repr=False)
    grpc_port: int | None = None
    patience: float | None = None
    client_options: ClientOptions = field(default_factory=ClientOptions)
    patience_at_start: float = 0.0

    def open(self) -> ServerGallery:
        """Raises GalleryNotFound, GalleryUnavailable."""
        return self._open(self.patience_at_start)

    def open_patiently(self) -> ServerGallery:
        """The same for a worker, which waits: the driver has already reached the server."""
        return self._open(self.patience or 0)

    def create(self, spec: GallerySpec, storage: CollectionConfig | None = None) -> ServerGallery:
        """Raises GalleryUnavailable."""
        from fti_qdrant.gallery.server import ServerGallery

        client = self._connect(self.patience or 0)
        return ServerGallery.create(client, self.collection, spec, storage, self.patience)

    @property
    def has_key(self) -> bool:
        return bool(self.api_key or os.environ.get("QDRANT_API_KEY"))

    def options(self) -> list[str]:
        """The options of the command lines; the API key is passed in the environment.

        Headers may be secrets too, and are left out.
        """
        grpc = [] if self.grpc_port is None else ["--grpc", "--grpc-port", str(self.grpc_port)]
        chosen = self.client_options
        others = {"--prefix": chosen.prefix, "--ca-file": chosen.ca_file}
        if chosen.timeout != TIMEOUT:
            others["--timeout"] = f"{chosen.timeout:g}"
        given = [part for name, value in others.items() if value for part in (name, value)]
        return ["--url", self.url, "--collection", self.collection, *grpc, *given]

    def _open(self, patience: float) -> ServerGallery:
        from fti_qdrant.gallery.server import ServerGallery

        return ServerGallery.open(self._connect(patience), self.collection, self.patience)

    def connect(self) -> QdrantClient:
        """A client of the server, for what is not a gallery yet. Raises GalleryUnavailable."""
        return self._connect(self.patience_at_start)

    def _connect(self, patience: float) -> QdrantClient:
        from fti_qdrant.gallery.server_connection import connect

        return connect(
            self.url,
            self.api_key,
            grpc_port=self.grpc_port,
            patience=patience,
            options=self.client_options,
        )


GalleryLocation = EmbeddedLocation | ServerLocation
