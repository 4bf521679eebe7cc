"""ray-qdrant's datasink, for payloads as they are and collections that exist."""

from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
from ray_qdrant.datasink import QdrantDatasink
from tenacity import Retrying, retry_if_exception, stop_after_attempt

from fti_qdrant.gallery.connect import TIMEOUT
from fti_qdrant.gallery.points import IMAGE_VECTOR
from fti_qdrant.gallery.server_errors import ATTEMPTS, pause, told_to_wait, translated

TOLD_TO_WAIT = Retrying(
    retry=retry_if_exception(told_to_wait),
    stop=stop_after_attempt(ATTEMPTS),
    wait=pause,
    reraise=True,
)
"""The sink itself retries all but this."""


class PayloadSink(QdrantDatasink):
    """Takes the columns ``id``, ``vector`` and ``payload``, a whole payload as JSON.

    As it comes, the sink makes each payload field a column: a user's field ``id`` would collide
    with the point's, a missing one become null, and fields of mixed types fit no column. It would
    also make a missing collection, without our metadata.
    """

    def __init__(self, url: str, collection: str, api_key: str | None):
        super().__init__(
            collection,
            url=url,
            api_key=api_key,
            vector_name=IMAGE_VECTOR,
            client_kwargs={"check_compatibility": False, "timeout": TIMEOUT},
        )

    def write_rows(self, table: pa.Table) -> None:
        """Raises GalleryUnavailable where the server does not take them."""
        with translated(f"collection {self.collection!r} at {self.url}"):
            TOLD_TO_WAIT(self.write, [table], ctx=None)

    def _to_payloads(self, table: pa.Table) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in table["payload"].to_pylist()]

    def _ensure_collection(self, client: Any, collection: str, vector_size: int) -> None:
        """``ServerGallery.create`` has made it."""
