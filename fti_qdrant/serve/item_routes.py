"""``POST /items`` and ``DELETE /items/{id}``, where writing is on."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Protocol

from fastapi import APIRouter, Request

from fti_qdrant.errors import BadQuery
from fti_qdrant.gallery.point_ids import PointId, StoredId, stored_form
from fti_qdrant.serve.answers import DeletedAnswer, ItemAnswer
from fti_qdrant.serve.bodies import Sent, read_body
from fti_qdrant.serve.documented import PROBLEMS, json_or_multipart_body
from fti_qdrant.serve.problems import Refusal
from fti_qdrant.serve.queries import decoded
from fti_qdrant.serve.schemas import IdInPath, ItemRequest
from fti_qdrant.serve.security import Access
from fti_qdrant.serve.threads import in_thread

ITEM_FIELD = "item"
"""The field of a multipart request that holds the JSON."""


class ItemWriter(Protocol):
    """What stores images one by one; ``fti_ingest.run.items.ItemIngest`` is one."""

    def store(
        self, key: str, data: bytes, payload: Mapping[str, Any]
    ) -> tuple[StoredId, Literal["stored", "updated", "unchanged"]]:
        """Adds or replaces the image of a key. Returns its id, and what became of it.

        Raises:
            BadImage, BadManifest: the picture or its payload cannot be stored; what was there
                before stays.
        """
        ...

    def delete(self, id: PointId) -> None:
        """Removes an image. Raises UnknownImageId."""
        ...


def item_routes(writer: ItemWriter | None, access: Access) -> APIRouter:
    """Args:
    writer: None where writing is off.
    """
    routes = APIRouter(tags=["items"], responses=PROBLEMS)

    @routes.post("/items", openapi_extra=json_or_multipart_body(ItemRequest, ITEM_FIELD))
    async def add_item(request: Request) -> ItemAnswer:
        """Adds an image, or replaces the one with its key."""
        store = allowed(writer).store
        await access.count(request)
        sent = await read_body(request, ITEM_FIELD)
        item = sent.parsed(ItemRequest)
        data = await in_thread(picture, item, sent)
        id, outcome = await in_thread(store, item.key, data, item.payload)
        return ItemAnswer(id=id, outcome=outcome)

    @routes.delete("/items/{id}")
    async def delete_item(request: Request, id: IdInPath) -> DeletedAnswer:
        """Removes an image from the gallery."""
        delete = allowed(writer).delete
        await access.count(request)
        await in_thread(delete, id)
        return DeletedAnswer(id=stored_form(id))

    return routes


def allowed(writer: ItemWriter | None) -> ItemWriter:
    """Raises Refusal (403) where writing is off."""
    if writer is None:
        raise Refusal(403, "Read only", "this service does not write; start it with --allow-writes")
    return writer


def picture(item: ItemRequest, sent: Sent) -> bytes:
    """The one picture of a request. Raises BadQuery, BadImage."""
    found = list(sent.files.values())
    if item.base64 is not None:
        found.append(decoded(item.base64, "base64"))
    if len(found) != 1:
        raise BadQuery(f"an item needs one picture, as a file or as base64, and has {len(found)}")
    return found[0]
