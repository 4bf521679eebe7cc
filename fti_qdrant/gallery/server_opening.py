"""Collections of ours on a server: created, and found again by what they say about themselves."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import count
from typing import Any

from qdrant_client import QdrantClient, models

from fti_qdrant.errors import GalleryExists, GalleryNotFound, NotAGallery
from fti_qdrant.gallery.calibration import Calibration
from fti_qdrant.gallery.collection_config import CollectionConfig
from fti_qdrant.gallery.points import GallerySpec
from fti_qdrant.gallery.server_capabilities import ServerCapabilities
from fti_qdrant.gallery.server_collection import NEEDED, creation_options
from fti_qdrant.gallery.server_connection import collection_of, gallery_name
from fti_qdrant.gallery.server_errors import exists_already, retrying, translated

SPEC_KEY = "fti_qdrant"
"""Our key in the collection's own metadata."""

CALIBRATION_KEY = "fti_qdrant_calibration"
"""Beside it. Updates of metadata merge keys, so each is written without the other."""


@dataclass(frozen=True)
class FoundCollection:
    """A collection that says what it is.

    Attributes:
        collection: its own name.
        alias: the alias that it was asked for by.
        name: for messages.
    """

    collection: str
    alias: str | None
    name: str
    spec: GallerySpec
    calibration: Calibration
    config: models.CollectionConfig


def create_collection(
    client: QdrantClient,
    collection: str,
    spec: GallerySpec,
    storage: CollectionConfig,
    patience: float | None,
) -> None:
    """Creates a collection without payload indexes. Raises GalleryExists, GalleryUnavailable."""
    name = gallery_name(client, collection)
    able = ServerCapabilities.of(client)
    able.require("metadata", name)
    if storage.quantization in NEEDED:
        able.require(NEEDED[storage.quantization], name)
    ours = spec.model_dump(mode="json")
    tries = count(1)

    def make() -> None:
        again = next(tries) > 1
        try:
            options = creation_options(storage, spec)
            client.create_collection(collection, metadata={SPEC_KEY: ours}, **options)
        except Exception as error:
            # an earlier attempt, whose answer was lost, may have made it
            lost = again and exists_already(error)
            if not (lost and _metadata(client.get_collection(collection)) == ours):
                raise

    with translated(name, "create"):
        if retrying(client.collection_exists, patience)(collection):
            raise GalleryExists(f"{name} exists already; open it, or choose another name")
        retrying(make, patience)()


def find_collection(
    client: QdrantClient, asked: str, patience: float | None = None
) -> FoundCollection:
    """What a collection, or that of an alias, says about itself.

    Raises GalleryNotFound, NotAGallery; GalleryUnavailable where the server is too old.
    """
    collection = collection_of(client, asked, patience)
    name = gallery_name(client, collection)
    ServerCapabilities.of(client).require("metadata", name)
    with translated(name):
        if not retrying(client.collection_exists, patience)(collection):
            there = retrying(client.get_collections, patience)().collections
            names = ", ".join(one.name for one in there)
            raise GalleryNotFound(
                f"no {name}; the server has: {names or 'no collections'}. Create one with: "
                f"fti-ingest IMAGES --url URL --collection {collection}"
            )
        info = retrying(client.get_collection, patience)(collection)
    metadata = _metadata(info)
    if metadata is None:
        raise NotAGallery(
            f"{name} was not made by fti-qdrant (no {SPEC_KEY!r} in its metadata), so its "
            "model is unknown; declare it once with fti-ingest adopt, or at each start with "
            "ComposedSearch.attach; or ingest into a new collection"
        )
    alias = asked if asked != collection else None
    spec = GallerySpec.read(json.dumps(metadata), name)
    calibration = stored_calibration(info.config, name)
    return FoundCollection(collection, alias, name, spec, calibration, info.config)


def stored_calibration(config: models.CollectionConfig, name: str) -> Calibration:
    """What a collection says about the chances of its hits; at first, nothing."""
    return Calibration.stored((config.metadata or {}).get(CALIBRATION_KEY), name)


def _metadata(info: models.CollectionInfo) -> Any:
    """What a gallery says about itself; None where the collection is not ours."""
    return (info.config.metadata or {}).get(SPEC_KEY)
