"""Our searches as qdrant-client takes them."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from fti_qdrant.gallery.point_conversion import vector_names
from fti_qdrant.gallery.points import GallerySpec, check_vector
from fti_qdrant.gallery.protocol import DIVERSE_CANDIDATES, VectorQuery

OVERSAMPLING = 2.0
"""With quantization, this many times the limit is found, then rescored by original vectors."""


def search_request(query: VectorQuery, spec: GallerySpec) -> models.QueryRequest:
    """A query without offset, cutoff, groups and another field's order.

    Raises ModelMismatch: a vector that does not fit.
    """
    check_vector(query.vector, spec.fingerprint.dim, "query")
    return models.QueryRequest(
        query=_scoring(query),
        using=spec.layout.using,
        filter=query.filter,
        limit=query.limit,
        score_threshold=query.score_above,
        with_payload=_payload(query),
        with_vector=vector_names(spec) if query.with_vectors else False,
        params=search_params(query),
    )


def group_options(query: VectorQuery, spec: GallerySpec) -> dict[str, Any]:
    """The arguments of ``QdrantClient.query_points_groups``. Raises as ``search_request``."""
    check_vector(query.vector, spec.fingerprint.dim, "query")
    return {
        "group_by": query.group_by,
        "group_size": query.group_size,
        "query": query.vector.tolist(),
        "using": spec.layout.using,
        "query_filter": query.filter,
        "limit": query.limit,
        "score_threshold": query.score_above,
        "with_payload": _payload(query),
        "with_vectors": vector_names(spec) if query.with_vectors else False,
        "search_params": search_params(query),
    }


def search_params(query: VectorQuery) -> models.SearchParams:
    """The user's parameters; the server ignores the quantization part where there is none."""
    if query.exact:
        return models.SearchParams(exact=True)
    rescored = models.QuantizationSearchParams(rescore=True, oversampling=OVERSAMPLING)
    params = query.params or models.SearchParams()
    return params.model_copy(
        update={"exact": False, "quantization": params.quantization or rescored}
    )


def _scoring(query: VectorQuery) -> Any:
    vector = query.vector.tolist()
    if not query.diversity:
        return vector
    mmr = models.Mmr(diversity=query.diversity, candidates_limit=DIVERSE_CANDIDATES)
    return models.NearestQuery(nearest=vector, mmr=mmr)


def _payload(query: VectorQuery) -> Any:
    """Which fields are returned; of none, false."""
    return True if query.payload_fields is None else list(query.payload_fields) or False
