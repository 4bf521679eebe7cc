"""ray-qdrant's datasink, for payloads as they are and collections that exist."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from ray_qdrant.datasink import QdrantDatasink

from fti_qdrant.gallery.layout import IMAGE_VECTOR
from fti_qdrant.gallery.location import ServerLocation
from fti_qdrant.gallery.server_connection import client_arguments
from fti_qdrant.gallery.server_errors import retrying, translated


class PayloadSink(QdrantDatasink):
    """Takes the columns ``id``, ``vector`` and ``payload``, a whole payload as JSON.

    As it comes, the sink makes each payload field a column: a user's field ``id`` would collide
    with the point's, a missing one become null, and fields of mixed types fit no column. It would
    also make a missing collection, without our metadata.
    """

    def __init__(self, location: ServerLocation, most_points: int | None = None):
        """``most_points`` of one upload, where the server limits them."""
        batches = {} if most_points is None else {"batch_size": most_points}
        super().__init__(
            location.collection,
            url=location.url,
            api_key=location.api_key,
            vector_name=IMAGE_VECTOR,
            client_kwargs=client_arguments(location.client_options, location.grpc_port),
            **batches,
        )
        self.location = location

    def write_rows(self, table: pa.Table) -> None:
        """Raises GalleryUnavailable where the server does not take them.

        The sink itself retries a few times, but not for long, and not after Retry-After.
        """
        with translated(f"collection {self.collection!r} at {self.url}", "write"):
            retrying(self.write, self.location.patience)([table], ctx=None)

    def _to_payloads(self, table: pa.Table) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in table["payload"].to_pylist()]

    def _ensure_collection(self, client: Any, collection: str, vector_size: int) -> None:
        """``ServerGallery.create`` has made it."""
