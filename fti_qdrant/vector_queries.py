"""Composed queries -> searches of a gallery, and what it finds -> hits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from qdrant_client import models

from fti_qdrant.filters.field_choices import group_field, order_field, payload_field
from fti_qdrant.filters.grammar import both
from fti_qdrant.filters.stored_fields import StoredFields
from fti_qdrant.gallery import FieldOrder, ScoredPoint, StoredImage, VectorQuery
from fti_qdrant.gallery.chance_map import ChanceMap
from fti_qdrant.gallery.layout import SHA256_KEY, CollectionLayout
from fti_qdrant.query import Hit, Query
from fti_qdrant.reference_ids import named_id
from fti_qdrant.refinements import field_order, payload_names, search_params
from fti_qdrant.stored_pictures import image_place

if TYPE_CHECKING:  # its module loads torch
    from fti_qdrant.references import LoadedQuery


def refined(query: Query, fields: StoredFields) -> VectorQuery:
    """A search without its vector yet: every field that the query names is looked up.

    Raises BadFilter, BadQuery.
    """
    names = payload_names(query.with_payload)
    params = search_params(query.search_params)
    uri = fields.gallery.spec.layout.uri_field
    in_params = params.exact if params and "exact" in params.model_fields_set else None
    return VectorQuery(
        vector=np.empty(0),
        filter=fields.checked(query.filter),
        limit=query.limit,
        score_threshold=query.score_threshold,
        with_vectors=query.with_vectors,
        exact=in_params if query.exact is None else query.exact,
        offset=query.offset,
        cutoff=query.cutoff,
        diversity=query.diversity or None,
        group_by=None if query.group_by is None else group_field(fields, query.group_by),
        group_size=query.group_size,
        order_by=_order(query, fields),
        payload_fields=None
        if names is None
        else (*([uri] if uri else []), *(payload_field(fields, name) for name in names)),
        params=params,
    )


def without_references(
    filter: models.Filter | None, query: LoadedQuery, layout: CollectionLayout
) -> models.Filter | None:
    """A filter that also leaves out the references and the liked and disliked images.

    References are recognized by their id, or by the content hash of their file, which our own
    galleries store.
    """
    if not query.query.exclude_reference:
        return filter
    named = [named_id(one) for one in (*query.query.references, *query.query.liked)]
    named += [named_id(one) for one in query.query.disliked]
    ids: list[Any] = [id for id in dict.fromkeys(named) if id is not None]
    hashes = []
    for source in query.sources:
        if not isinstance(source, StoredImage) and layout.ours:
            hashes.append(source.sha256)
    excluded: list[Any] = []
    if hashes:
        match = models.MatchAny(any=hashes)
        excluded.append(models.FieldCondition(key=SHA256_KEY, match=match))
    if ids:
        excluded.append(models.HasIdCondition(has_id=ids))
    return both(filter, models.Filter(must_not=excluded)) if excluded else filter


def as_hit(
    point: ScoredPoint, query: Query, layout: CollectionLayout, chances: ChanceMap | None
) -> Hit:
    """A hit of a point: our own fields apart from the user's, and of these what was asked for."""
    payload = layout.users_fields(point.payload)
    names = payload_names(query.with_payload)
    if names is not None and layout.uri_field not in names:
        payload.pop(layout.uri_field or "", None)  # it was read for the place of the image
    uri = image_place(point.payload, layout)
    confidence = None if chances is None else chances.of(point.score)
    return Hit(point.id, point.score, uri, payload, point.vector, point.group, confidence)


def _order(query: Query, fields: StoredFields) -> FieldOrder | None:
    if query.order_by is None:
        return None
    order = field_order(query.order_by)
    return FieldOrder(order_field(fields, order.key), order.descending)
