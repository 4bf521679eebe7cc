"""The last stage: rows become points, written by the driver or, on a cluster, by each worker."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pyarrow as pa

from fti_ingest.stages.columns import matrix, replaced, rows_with, spread, texts
from fti_ingest.stages.row_status import PAYLOAD, STORE
from fti_qdrant.gallery import Gallery, GalleryPoint, GallerySpec
from fti_qdrant.gallery.layout import OURS, CollectionLayout, Payload, field_value
from fti_qdrant.gallery.location import ServerLocation
from fti_qdrant.gallery.point_ids import parsed_id

FACTS = {
    "uri": "uri",
    "sha256": "sha256",
    "width": "width",
    "height": "height",
    "perceptual_hash": "look",
    "revision": "revision",
}
"""Columns that are stored under ``_fti``, and their keys there."""

HEAVY = ("payload", "vector", "words")
"""Columns that are not needed after they are stored."""


def write(batch: pa.Table, gallery: Gallery, mark: bool = False) -> pa.Table:
    """Stores a batch in a gallery and adds the column ``write_s``.

    Args:
        mark: note duplicates in the payload.
    """
    began = time.perf_counter()
    gallery.upsert([*points(batch, gallery.spec, mark), *updated_points(batch, gallery)])
    return replaced(batch, write_s=spread(time.perf_counter() - began, batch.num_rows))


def points(batch: pa.Table, spec: GallerySpec, mark: bool = False) -> list[GalleryPoint]:
    """The new and changed images of a batch."""
    rows = rows_with(batch, STORE)
    if not rows.num_rows:
        return []
    found = matrix(rows["vector"])
    words: Any = [None] * rows.num_rows
    if spec.words:
        words = matrix(rows["words"]).reshape(-1, 1 + spec.words.topk, spec.words.token_dim)
    payloads = stored_payloads(rows, spec, mark)
    ids = map(parsed_id, rows["id"].to_pylist())
    return list(map(GalleryPoint, ids, found, payloads, words))


def stored_payloads(rows: pa.Table, spec: GallerySpec, mark: bool) -> list[Payload]:
    """The user's payload, and our facts beside it."""
    names = dict(FACTS)
    if spec.words:
        names["r"] = "r"
    if mark:
        names |= {"duplicate_of": "duplicate_of", "duplicate": "duplicate"}
    facts = rows.select(list(names)).rename_columns(list(names.values())).to_pylist()
    return [
        {
            **users_payload(text, ours["uri"], spec.layout),
            OURS: {name: value for name, value in ours.items() if value != ""},
        }
        for text, ours in zip(rows["payload"].to_pylist(), facts)
    ]


def users_payload(text: str, uri: str, layout: CollectionLayout) -> Payload:
    """The fields of a row; in another program's collection, also where that looks for the image.

    Example:
        >>> shop = CollectionLayout(uri_field="image.url", ours=False)
        >>> users_payload('{"brand": "Acme"}', "s3://shop/1.jpg", shop)
        {'brand': 'Acme', 'image': {'url': 's3://shop/1.jpg'}}
    """
    payload: Payload = json.loads(text)
    if layout.ours or layout.uri_field is None or field_value(payload, layout.uri_field):
        return payload
    *outer, last = layout.uri_field.split(".")
    place = payload
    for name in outer:
        inner = place.setdefault(name, {})
        if not isinstance(inner, dict):  # the row has another value there, which stays
            return payload
        place = inner
    place[last] = uri
    return payload


def updated_points(batch: pa.Table, gallery: Gallery) -> list[GalleryPoint]:
    """Images whose payload or URI alone has changed: the stored vector and facts stay."""
    rows = rows_with(batch, PAYLOAD)
    if not rows.num_rows:
        return []
    new = {
        parsed_id(row.pop("id")): row
        for row in rows.select(["id", "payload", "uri", "revision"]).to_pylist()
    }
    return [
        GalleryPoint(
            held.id,
            held.vector,
            _updated(held.payload, gallery.spec.layout, **new[held.id]),
            held.words,
        )
        for held in gallery.retrieve(list(new))
    ]


def _updated(
    held: Payload, layout: CollectionLayout, payload: str, uri: str, revision: str
) -> Payload:
    users = users_payload(payload, uri, layout)
    return {**users, OURS: {**held[OURS], "uri": uri, "revision": revision}}


class LogRecords(logging.Handler):
    """Keeps what this process logs about uploads, for the driver to log: its log is elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self._messages: list[str] = []
        logging.getLogger("fti_qdrant").addHandler(self)
        sink = logging.getLogger("ray_qdrant")
        sink.addHandler(self)
        sink.setLevel(logging.DEBUG)  # it logs its attempts at this level only

    def emit(self, record: logging.LogRecord) -> None:
        self._messages.append(record.getMessage())

    def column(self, rows: int) -> pa.Array:
        """All messages since the last call, as a JSON list in the first of so many rows."""
        messages, self._messages = self._messages, []
        first = json.dumps(messages) if messages else ""
        return texts([first, *[""] * (rows - 1)][:rows])


def messages_in(batch: pa.Table) -> Iterator[str]:
    """What ``LogRecords`` kept; nothing where the driver writes."""
    if "messages" in batch.column_names:
        for messages in filter(None, batch["messages"].to_pylist()):
            yield from json.loads(messages)


class ServerWriter:
    """Writes to a server from a worker, and hands on the outcome alone.

    Plain vectors go through ray-qdrant's datasink. It writes one vector a point, so points with
    pseudo-words go through ``ServerGallery.upsert``, which retries alike; so do updates, and points
    of collections that another program made, whose names are not ours.
    """

    def __init__(
        self,
        location: ServerLocation,
        spec: GallerySpec,
        mark: bool = False,
        most_points: int | None = None,
    ):
        """``most_points`` of one upload, where the server limits them."""
        self.location = location
        self.spec = spec
        self.mark = mark
        self.records = LogRecords()
        self.plain = not spec.words and spec.layout.ours
        if self.plain:
            from fti_ingest.stages.qdrant_datasink import PayloadSink

            self.sink = PayloadSink(location, most_points)

    @cached_property
    def gallery(self) -> Gallery:
        return self.location.open_patiently()

    def __call__(self, batch: pa.Table) -> pa.Table:
        began = time.perf_counter()
        if not self.plain:
            self.gallery.upsert(points(batch, self.spec, self.mark))
        elif (rows := rows_with(batch, STORE)).num_rows:
            payloads = texts(map(json.dumps, stored_payloads(rows, self.spec, self.mark)))
            self.sink.write_rows(replaced(rows.select(["id", "vector"]), payload=payloads))
        if rows_with(batch, PAYLOAD).num_rows:  # else the gallery need not be opened
            self.gallery.upsert(updated_points(batch, self.gallery))
        rest = batch.drop_columns([name for name in HEAVY if name in batch.column_names])
        return replaced(
            rest,
            messages=self.records.column(len(batch)),
            write_s=spread(time.perf_counter() - began, len(batch)),
        )
