"""What a Qdrant server can do, by its version.

A server is asked for its version once for each client. One that does not tell, as behind some
proxies, is taken to be able to do everything: what it cannot do it will say itself.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from weakref import WeakKeyDictionary

from fti_qdrant.errors import GalleryUnavailable

if TYPE_CHECKING:
    from qdrant_client import QdrantClient
    from typing_extensions import Self

Feature = Literal[
    "queries",
    "groups",
    "facets",
    "diversity",
    "two_bits",
    "metadata",
    "acorn",
    "turbo",
    "add_vector",
]


@dataclass(frozen=True)
class Availability:
    """A feature in words, and the least version (major, minor) of a server that has it."""

    words: str
    least: tuple[int, int]


AVAILABLE: dict[Feature, Availability] = {
    "queries": Availability("the query API with random samples", (1, 11)),
    "groups": Availability("group_by", (1, 11)),
    "facets": Availability("facets", (1, 12)),
    "diversity": Availability("diversity (maximal marginal relevance)", (1, 15)),
    "two_bits": Availability("binary quantization with two bits", (1, 15)),
    "metadata": Availability("metadata of collections, where a gallery keeps its model", (1, 16)),
    "acorn": Availability("search_params with ACORN", (1, 16)),
    "turbo": Availability("quantization by TurboQuant", (1, 18)),
    "add_vector": Availability("new named vectors in an existing collection", (1, 18)),
}
"""From which version the features that we use are there, by Qdrant's documentation."""


@dataclass(frozen=True)
class ServerCapabilities:
    """What a server of some version can do.

    Attributes:
        version: such as ``1.18.3``; None where the server does not tell.

    Example:
        >>> old = ServerCapabilities("1.15.4")
        >>> old.supports("diversity"), old.supports("turbo"), ServerCapabilities().supports("turbo")
        (True, False, True)
        >>> old.require("turbo", "server http://localhost:6333")
        Traceback (most recent call last):
        ...
        fti_qdrant.errors.GalleryUnavailable: server http://localhost:6333 runs Qdrant 1.15.4, \
and quantization by TurboQuant needs 1.18 or newer; update the server
    """

    version: str | None = None

    @classmethod
    def of(cls, client: QdrantClient) -> Self:
        """Asks the server, the first time.

        Raises nothing: a server that does not tell may still answer everything else.
        """
        known = _KNOWN.get(client)
        if known is None:
            known = _KNOWN[client] = cls(_version_told(client))
        return known  # type: ignore[return-value]

    def supports(self, feature: Feature) -> bool:
        numbers = version_numbers(self.version)
        return numbers is None or numbers >= AVAILABLE[feature].least

    def require(self, feature: Feature, name: str) -> None:
        """Raises GalleryUnavailable where the server is too old; ``name`` begins the message."""
        if not self.supports(feature):
            wanted = AVAILABLE[feature]
            raise GalleryUnavailable(
                f"{name} runs Qdrant {self.version}, and {wanted.words} needs "
                f"{wanted.least[0]}.{wanted.least[1]} or newer; update the server"
            )


def version_numbers(version: str | None) -> tuple[int, int] | None:
    """Major and minor version; None for what is not a version.

    Example:
        >>> version_numbers("v1.18.3-dev"), version_numbers("unknown")
        ((1, 18), None)
    """
    found = re.match(r"v?(\d+)\.(\d+)", version or "")
    return (int(found[1]), int(found[2])) if found else None


_KNOWN: WeakKeyDictionary[QdrantClient, ServerCapabilities] = WeakKeyDictionary()


def _version_told(client: QdrantClient) -> str | None:
    import grpc
    import httpx
    from qdrant_client.common.client_exceptions import QdrantException
    from qdrant_client.http.exceptions import ApiException

    hidden = (
        ApiException,
        QdrantException,
        grpc.RpcError,
        httpx.HTTPError,
        AssertionError,
        ValueError,
    )
    try:
        return client.info().version
    except hidden:
        return None
