"""``/search``, ``/search/batch``, ``/compose``, ``/similar/{id}`` and ``/facets/{field}``."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from fti_qdrant.async_search import AsyncComposedSearch
from fti_qdrant.errors import BadFilter
from fti_qdrant.query import Query as SearchQuery
from fti_qdrant.serve.answers import (
    BatchAnswer,
    ComposeAnswer,
    FacetsAnswer,
    SearchAnswer,
    compose_answer,
    facets_answer,
    search_answer,
)
from fti_qdrant.serve.bodies import parse_json, read_body
from fti_qdrant.serve.documented import PROBLEMS, json_body, json_or_multipart_body
from fti_qdrant.serve.metrics import Metrics
from fti_qdrant.serve.queries import Pictures, check_fields, compose_arguments, query_of
from fti_qdrant.serve.schemas import (
    MOST_HITS,
    MOST_OFFSET,
    BatchRequest,
    ComposeRequest,
    IdInPath,
    SearchRequest,
)
from fti_qdrant.serve.security import Access
from fti_qdrant.serve.threads import in_thread
from fti_qdrant.serve.url_pictures import UrlPictures

QUERY_FIELD = "query"
"""The field of a multipart request that holds the JSON."""

MOST_FACETS = 1000

FilterText = Annotated[
    str | None,
    Query(description='On the payload, as JSON: `{"price": {"lt": 50}}`.', max_length=4000),
]


def search_routes(
    search: AsyncComposedSearch, urls: UrlPictures, access: Access, metrics: Metrics
) -> APIRouter:
    """Queries, their vectors, and the values of fields."""
    routes = APIRouter(tags=["search"], responses=PROBLEMS)

    async def one(query: SearchQuery) -> SearchAnswer:
        [hits] = await search.query_many([query])
        return search_answer(hits)

    @routes.post("/search", openapi_extra=json_or_multipart_body(SearchRequest, QUERY_FIELD))
    async def search_images(request: Request) -> SearchAnswer:
        """Images like the references, changed as the text says, that pass the filter."""
        await access.count(request)
        with metrics.stage("body"):
            sent = await read_body(request, QUERY_FIELD)
        asked = sent.parsed(SearchRequest)
        async with urls.fetched(asked.references or ()) as fetched:
            return await one(await in_thread(query_of, asked, Pictures(sent.files, fetched)))

    @routes.post("/search/batch", openapi_extra=json_body(BatchRequest))
    async def search_batch(request: Request) -> BatchAnswer:
        """Several queries by one pass of the model. One that is bad refuses all of them."""
        with metrics.stage("body"):
            sent = await read_body(request)
        asked = sent.parsed(BatchRequest).queries
        await access.count(request, len(asked))
        references = [one for query in asked for one in query.references or ()]
        async with urls.fetched(references) as fetched:
            pictures = Pictures(urls=fetched)
            queries = await in_thread(lambda: [query_of(query, pictures) for query in asked])
            found = await search.query_many(queries)
        return BatchAnswer(answers=list(map(search_answer, found)))

    @routes.post("/compose", openapi_extra=json_or_multipart_body(ComposeRequest, QUERY_FIELD))
    async def compose(request: Request) -> ComposeAnswer:
        """The query vector alone, for a Qdrant request of your own."""
        await access.count(request)
        with metrics.stage("body"):
            sent = await read_body(request, QUERY_FIELD)
        asked = sent.parsed(ComposeRequest)
        async with urls.fetched(asked.references or ()) as fetched:
            pictures = Pictures(sent.files, fetched)
            arguments = await in_thread(compose_arguments, asked, pictures)
            return compose_answer(await search.compose(**arguments))

    @routes.get("/similar/{id}")
    async def similar(
        request: Request,
        id: IdInPath,
        limit: Annotated[int, Query(ge=1, le=MOST_HITS)] = 10,
        offset: Annotated[int, Query(ge=0, le=MOST_OFFSET)] = 0,
        filter: FilterText = None,
    ) -> SearchAnswer:
        """Images like one of the gallery, without a text."""
        await access.count(request)
        parsed = parse_filter(filter)
        return await one(SearchQuery(image=id, limit=limit, offset=offset, filter=parsed))

    @routes.get("/facets/{field:path}")
    async def facets(
        request: Request,
        field: str,
        limit: Annotated[int, Query(ge=1, le=MOST_FACETS)] = 20,
        filter: FilterText = None,
    ) -> FacetsAnswer:
        """The values of a field with their numbers of images, the most frequent first."""
        await access.count(request)
        parsed = parse_filter(filter, field)
        found = await search.facets(field, filter=parsed, limit=limit)
        return facets_answer(field, found)

    return routes


def parse_filter(text: str | None, *fields: str) -> dict[str, Any] | None:
    """The query parameter ``filter``.

    Args:
        fields: others that the request names.

    Raises BadFilter, BadQuery.
    """
    found = None if text is None else parse_json(text, "filter")
    if found is not None and not isinstance(found, dict):
        raise BadFilter(f'filter must be an object such as {{"brand": "Acme"}}, got {text}')
    check_fields(fields, found)
    return found
