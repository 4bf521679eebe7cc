"""Where embedded rows go: the driver writes an embedded gallery, workers write to a server."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from functools import cached_property

import pyarrow as pa

from fti_ingest.stages.columns import matrix, rows_with, spread
from fti_ingest.stages.row_status import UPDATED
from fti_qdrant.gallery import Gallery, GalleryPoint, GallerySpec
from fti_qdrant.gallery.location import ServerLocation
from fti_qdrant.gallery.points import OURS

HEAVY = ("payload", "vector", "words")
"""Columns that nobody needs once they are stored."""


def points(batch: pa.Table, spec: GallerySpec) -> list[GalleryPoint]:
    """The good rows of a batch as points."""
    good = rows_with(batch, "")
    if not good.num_rows:
        return []
    shape = (1 + spec.words.topk, spec.words.token_dim) if spec.words else None
    words = matrix(good["words"]) if shape else None
    return [
        GalleryPoint(
            id, vector, json.loads(payload), None if words is None else words[row].reshape(shape)
        )
        for row, (id, payload, vector) in enumerate(
            zip(good["id"].to_pylist(), good["payload"].to_pylist(), matrix(good["vector"]))
        )
    ]


def updated_points(rows: pa.Table, gallery: Gallery) -> list[GalleryPoint]:
    """Rows of ``UPDATED`` as points: a new payload; what we store beside stays, and the vector."""
    if not rows.num_rows:
        return []
    payloads = dict(zip(rows["id"].to_pylist(), map(json.loads, rows["payload"].to_pylist())))
    return [
        GalleryPoint(
            held.id,
            held.vector,
            {**payloads[held.id], OURS: {**held.payload[OURS], **payloads[held.id][OURS]}},
            held.words,
        )
        for held in gallery.retrieve(list(payloads))
    ]


class Heard(logging.Handler):
    """What is said of uploads in this process, kept for the driver: its log is elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[str] = []
        logging.getLogger("fti_qdrant").addHandler(self)
        sink = logging.getLogger("ray_qdrant")
        sink.addHandler(self)
        sink.setLevel(logging.DEBUG)  # its attempts, else it says nothing of them

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())

    def column(self, rows: int) -> pa.Array:
        """All since the last call, in the first of so many rows, as a list in JSON."""
        told, self._messages = self._messages, []
        first = json.dumps(told) if told else ""
        return pa.array([first, *[""] * (rows - 1)][:rows], pa.string())


def messages_in(batch: pa.Table) -> Iterator[str]:
    """What a ``ServerWriter`` heard; nothing where none had the batch."""
    if "messages" in batch.column_names:
        for told in filter(None, batch["messages"].to_pylist()):
            yield from json.loads(told)


class ServerWriter:
    """Stage 3 for a server: writes the good rows where they are and hands on only the outcome.

    Plain vectors go through ray-qdrant's datasink. It writes one vector a point, so points with
    pseudo-words, and those that are there already, go through ``ServerGallery.upsert``, which
    retries alike.
    """

    def __init__(self, address: ServerLocation, spec: GallerySpec):
        self.spec = spec
        self.heard = Heard()
        self.address = address
        if not spec.words:
            from fti_ingest.stages.qdrant_datasink import PayloadSink

            self.sink = PayloadSink(address)

    @cached_property
    def gallery(self) -> Gallery:
        return self.address.open_patiently()

    def __call__(self, batch: pa.Table) -> pa.Table:
        began = time.perf_counter()
        if self.spec.words:
            self.gallery.upsert(points(batch, self.spec))
        elif (good := rows_with(batch, "")).num_rows:
            self.sink.write_rows(good.select(["id", "vector", "payload"]))
        if (updated := rows_with(batch, UPDATED)).num_rows:  # else no gallery need be opened
            self.gallery.upsert(updated_points(updated, self.gallery))
        told = batch.drop_columns([name for name in HEAVY if name in batch.column_names])
        told = told.append_column("messages", self.heard.column(len(batch)))
        return told.append_column("write_s", spread(time.perf_counter() - began, len(batch)))
