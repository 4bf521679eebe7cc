"""Our searches as qdrant-client takes them."""

from __future__ import annotations

from typing import Any

from qdrant_client import models

from fti_qdrant.gallery.point_conversion import vector_names
from fti_qdrant.gallery.points import GallerySpec, check_vector
from fti_qdrant.gallery.protocol import DIVERSE_CANDIDATES, VectorQuery
from fti_qdrant.gallery.request_limits import RequestLimits
from fti_qdrant.gallery.server_capabilities import Feature


def features_of(query: VectorQuery) -> list[Feature]:
    """What the server must be able to do to answer a query."""
    asked: dict[Feature, object] = {
        "groups": query.group_by,
        "diversity": query.diversity,
        "acorn": query.params and query.params.acorn,
    }
    return [feature for feature, wanted in asked.items() if wanted]


def search_request(
    query: VectorQuery, spec: GallerySpec, limits: RequestLimits
) -> models.QueryRequest:
    """A query without offset, cutoff, groups and another field's order.

    Raises ModelMismatch: a vector that does not fit.
    """
    check_vector(query.vector, spec.fingerprint.dim, "query")
    return models.QueryRequest(
        query=_scoring(query),
        using=spec.layout.using,
        filter=query.filter,
        limit=limits.results_read(query.limit),
        score_threshold=query.score_above,
        with_payload=_payload(query),
        with_vector=vector_names(spec) if query.with_vectors else False,
        params=search_params(query, limits),
    )


def group_options(query: VectorQuery, spec: GallerySpec, limits: RequestLimits) -> dict[str, Any]:
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
        "search_params": search_params(query, limits),
    }


def search_params(query: VectorQuery, limits: RequestLimits) -> models.SearchParams:
    """The user's parameters; quantized vectors are rescored as the user says, or by ``limits``."""
    if query.exact:
        return models.SearchParams(exact=True)
    params = query.params or models.SearchParams()
    quantization = params.quantization
    if quantization is None and limits.oversampling is not None:
        quantization = models.QuantizationSearchParams(
            rescore=True, oversampling=limits.oversampling
        )
    return params.model_copy(update={"exact": False, "quantization": quantization})


def _scoring(query: VectorQuery) -> Any:
    vector = query.vector.tolist()
    if not query.diversity:
        return vector
    mmr = models.Mmr(diversity=query.diversity, candidates_limit=DIVERSE_CANDIDATES)
    return models.NearestQuery(nearest=vector, mmr=mmr)


def _payload(query: VectorQuery) -> Any:
    """Which fields are returned; of none, false."""
    return True if query.payload_fields is None else list(query.payload_fields) or False
