"""Our searches as Qdrant Edge takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import qdrant_edge as edge

from fti_qdrant.gallery.points import GallerySpec, check_vector
from fti_qdrant.gallery.protocol import DIVERSE_CANDIDATES, VectorQuery

if TYPE_CHECKING:
    from qdrant_client import models


def search_request(query: VectorQuery, spec: GallerySpec) -> edge.QueryRequest:
    """A query without offset, cutoff, groups and another field's order.

    Raises ModelMismatch (a vector that does not fit), BadFilter.
    """
    check_vector(query.vector, spec.fingerprint.dim, "query")
    fields = query.payload_fields
    return edge.QueryRequest(
        limit=query.limit,
        query=_scoring(query, spec.layout.image_vector),
        filter=engine_filter(query.filter),
        score_threshold=query.score_above,
        with_payload=True if fields is None else list(fields) or False,
        with_vector=[spec.layout.image_vector] if query.with_vectors else None,
        params=_params(query),
    )


def engine_filter(filter: models.Filter | None) -> edge.Filter | None:
    """Imports on use: qdrant-client takes half a second to load, more than all else here."""
    if filter is None:
        return None
    from fti_qdrant.gallery.edge_filters import to_edge

    return to_edge(filter)


def _scoring(query: VectorQuery, using: str) -> Any:
    vector = query.vector.tolist()
    if not query.diversity:
        return edge.Query.Nearest(vector, using=using)
    return edge.Mmr(vector, 1 - query.diversity, DIVERSE_CANDIDATES, using=using)


def _params(query: VectorQuery) -> edge.SearchParams:
    """An exact search has no other parameters."""
    if query.exact is not False or query.params is None:
        return edge.SearchParams(exact=query.exact is not False)
    options: dict[str, Any] = {"indexed_only": bool(query.params.indexed_only)}
    if (acorn := query.params.acorn) is not None:
        options["acorn"] = edge.AcornSearchParams(bool(acorn.enable), acorn.max_selectivity)
    if (stored := query.params.quantization) is not None:
        options["quantization"] = edge.QuantizationSearchParams(
            bool(stored.ignore), stored.rescore, stored.oversampling
        )
    return edge.SearchParams(hnsw_ef=query.params.hnsw_ef, **options)
