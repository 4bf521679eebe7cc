"""Where embedded rows go: the driver writes an embedded gallery, workers write to a server."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict

from fti_ingest.stages import Batch
from fti_qdrant.gallery import Gallery, GalleryPoint, GallerySpec, ServerGallery, connect
from fti_qdrant.gallery.points import IMAGE_VECTOR


class ServerAddress(BaseModel):
    """A collection on a Qdrant server; travels to the workers."""

    model_config = ConfigDict(frozen=True)

    url: str
    collection: str
    api_key: str | None = None

    def open(self) -> ServerGallery:
        return ServerGallery.open(connect(self.url, self.api_key), self.collection)


def points(batch: Batch, spec: GallerySpec) -> list[GalleryPoint]:
    """The rows of a batch that have no ``reason`` against them, as points."""
    shape = (1 + spec.words.topk, spec.words.token_dim) if spec.words else None
    return [
        GalleryPoint(
            str(batch["id"][row]),
            np.asarray(batch["vector"][row], dtype=np.float32),
            json.loads(batch["payload"][row]),
            np.asarray(batch["words"][row]).reshape(shape) if shape else None,
        )
        for row in np.flatnonzero(batch["reason"] == "")
    ]


class ServerWriter:
    """Stage 3 for a server: writes the good rows where they are and hands on only the outcome.

    Plain vectors go through ray-qdrant's datasink. It writes one vector a point, so points with
    pseudo-words go through ``ServerGallery.upsert``, which retries alike.
    """

    def __init__(self, address: ServerAddress, spec: GallerySpec):
        self.address = address
        self.spec = spec
        self.gallery: Gallery | None = address.open() if spec.words else None

    def __call__(self, batch: Batch) -> Batch:
        good = points(batch, self.spec)
        if self.gallery is not None:
            self.gallery.upsert(good)
        elif good:
            self._write_plain(good)
        return {name: batch[name] for name in ("id", "uri", "reason")}

    def _write_plain(self, good: list[GalleryPoint]) -> None:
        import pyarrow as pa
        from ray_qdrant.datasink import QdrantDatasink

        rows: list[dict[str, Any]] = [
            {"id": point.id, "vector": point.vector.tolist(), **point.payload} for point in good
        ]
        sink = QdrantDatasink(
            self.address.collection,
            url=self.address.url,
            api_key=self.address.api_key,
            vector_name=IMAGE_VECTOR,
            client_kwargs={"check_compatibility": False},
        )
        sink.write([pa.Table.from_pylist(rows)], ctx=None)
