"""Where a gallery is, before it is opened: a folder, or a collection on a server."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from fti_qdrant.gallery.connect import connect
from fti_qdrant.gallery.edge import EdgeGallery
from fti_qdrant.gallery.points import GallerySpec
from fti_qdrant.gallery.server import ServerGallery


@dataclass(frozen=True)
class EmbeddedPlace:
    """A folder."""

    path: Path

    def open(self) -> EdgeGallery:
        """Raises GalleryNotFound, GalleryUnavailable."""
        return EdgeGallery.open(self.path)

    def create(self, spec: GallerySpec) -> EdgeGallery:
        """Raises GalleryUnavailable."""
        return EdgeGallery.create(self.path, spec)

    def options(self) -> list[str]:
        """As the commands take it."""
        return ["--gallery", str(self.path)]


@dataclass(frozen=True)
class ServerPlace:
    """A collection on a Qdrant server; may travel to other processes.

    Attributes:
        api_key: by default the environment's ``QDRANT_API_KEY``.
    """

    url: str
    collection: str
    api_key: str | None = field(default=None, repr=False)

    def open(self) -> ServerGallery:
        """Raises GalleryNotFound, GalleryUnavailable."""
        return ServerGallery.open(connect(self.url, self.api_key), self.collection)

    def create(self, spec: GallerySpec) -> ServerGallery:
        """Raises GalleryUnavailable."""
        return ServerGallery.create(connect(self.url, self.api_key), self.collection, spec)

    def options(self) -> list[str]:
        """As the commands take it; the key travels in the environment."""
        return ["--url", self.url, "--collection", self.collection]


GalleryPlace = EmbeddedPlace | ServerPlace
