"""The stand-in's other door: Qdrant's gRPC services, over the handlers of its HTTP interface."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import grpc
from pydantic import BaseModel
from qdrant_client import grpc as messages
from qdrant_client import models
from qdrant_client.conversions.conversion import GrpcToRest, RestToGrpc

from tests.qdrant_standin import Refused, Standin

CODES = {
    400: grpc.StatusCode.INVALID_ARGUMENT,
    401: grpc.StatusCode.UNAUTHENTICATED,
    403: grpc.StatusCode.PERMISSION_DENIED,
    404: grpc.StatusCode.NOT_FOUND,
    409: grpc.StatusCode.ALREADY_EXISTS,
    429: grpc.StatusCode.RESOURCE_EXHAUSTED,
    503: grpc.StatusCode.UNAVAILABLE,
}


class _Door:
    """Requests as HTTP has them."""

    def __init__(self, standin: Standin):
        self.standin = standin

    def _ask(self, context: grpc.ServicerContext, method: str, path: str, body: Any = None) -> Any:
        sent = dict(context.invocation_metadata())
        try:
            return self.standin.answer(method, path, body or {}, sent.get("api-key"))
        except Refused as refused:
            _abort(context, CODES[refused.status], str(refused), refused.headers)
        except Exception as error:
            code = grpc.StatusCode.INVALID_ARGUMENT
            _abort(context, code, f"{type(error).__name__}: {error}", {})

    def _of(self, context: grpc.ServicerContext, method: str, request: Any, *below: str) -> Any:
        """Of a request about a collection alone."""
        return self._ask(context, method, "/".join(["/collections", _name(request), *below]))


class Root(_Door, messages.QdrantServicer):  # type: ignore[misc]
    def HealthCheck(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return messages.HealthCheckReply(**self._ask(context, "GET", "/"))


class Collections(_Door, messages.CollectionsServicer):  # type: ignore[misc]
    def List(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        found = self._ask(context, "GET", "/collections")["collections"]
        named = [messages.CollectionDescription(name=one["name"]) for one in found]
        return messages.ListCollectionsResponse(collections=named)

    def ListAliases(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        found = self._ask(context, "GET", "/aliases")["aliases"]
        return messages.ListAliasesResponse(
            aliases=[messages.AliasDescription(**one) for one in found]
        )

    def UpdateAliases(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        actions = [_json(GrpcToRest.convert_alias_operations(one)) for one in request.actions]
        self._ask(context, "POST", "/collections/aliases", {"actions": actions})
        return messages.CollectionOperationResponse(result=True)

    def CollectionExists(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        exists = messages.CollectionExists(**self._of(context, "GET", request, "exists"))
        return messages.CollectionExistsResponse(result=exists)

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        info = models.CollectionInfo.model_validate(self._of(context, "GET", request))
        return messages.GetCollectionInfoResponse(result=RestToGrpc.convert_collection_info(info))

    def Create(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        asked = models.CreateCollection(
            vectors=GrpcToRest.convert_vectors_config(request.vectors_config),
            metadata=GrpcToRest.convert_payload(request.metadata),
            shard_number=_given(request, "shard_number"),
            replication_factor=_given(request, "replication_factor"),
            on_disk_payload=_given(request, "on_disk_payload"),
        )
        self._ask(context, "PUT", f"/collections/{_name(request)}", _json(asked))
        return messages.CollectionOperationResponse(result=True)

    def Update(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        vectors = _converted(request, "vectors_config", GrpcToRest.convert_vectors_config_diff)
        asked = models.UpdateCollection(
            hnsw_config=_converted(request, "hnsw_config", GrpcToRest.convert_hnsw_config_diff),
            vectors=vectors,
            metadata=GrpcToRest.convert_payload(request.metadata) or None,
        )
        self._ask(context, "PATCH", f"/collections/{_name(request)}", _json(asked))
        return messages.CollectionOperationResponse(result=True)

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        return messages.CollectionOperationResponse(result=self._of(context, "DELETE", request))


class Points(_Door, messages.PointsServicer):  # type: ignore[misc]
    def _points(
        self, context: grpc.ServicerContext, request: Any, below: str, body: BaseModel | dict
    ) -> Any:
        path = f"/collections/{_name(request)}/points{below}"
        return self._ask(context, "POST", path, body if isinstance(body, dict) else _json(body))

    def CreateFieldIndex(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        kind = messages.FieldType.Name(request.field_type).removeprefix("FieldType").lower()
        body = {"field_name": request.field_name, "field_schema": kind}
        self._ask(context, "PUT", f"/collections/{_name(request)}/index", body)
        return _completed()

    def CreateVectorName(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        given = request.dense_config
        dense = models.DenseVectorConfig(
            size=given.size,
            distance=GrpcToRest.convert_distance(given.distance),
            multivector_config=_converted(
                given, "multivector_config", GrpcToRest.convert_multivector_config
            ),
            datatype=_converted(given, "datatype", GrpcToRest.convert_datatype),
        )
        path = f"/collections/{_name(request)}/vectors/{request.vector_name}"
        self._ask(context, "PUT", path, _json(models.DenseVectorNameConfig(dense=dense)))
        return _completed()

    def UpdateVectors(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        points = [_json(GrpcToRest.convert_point_vectors(one)) for one in request.points]
        path = f"/collections/{_name(request)}/points/vectors"
        self._ask(context, "PUT", path, {"points": points})
        return _completed()

    def Upsert(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        points = [_json(GrpcToRest.convert_point_struct(one)) for one in request.points]
        self._ask(context, "PUT", f"/collections/{_name(request)}/points", {"points": points})
        return _completed()

    def Delete(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        selector = GrpcToRest.convert_points_selector(request.points)
        self._points(context, request, "/delete", selector)
        return _completed()

    def Get(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        asked = models.PointRequest(
            ids=[GrpcToRest.convert_point_id(one) for one in request.ids],
            with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
            with_vector=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
        )
        return messages.GetResponse(result=_records(self._points(context, request, "", asked)))

    def Scroll(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        asked = models.ScrollRequest(
            filter=_converted(request, "filter", GrpcToRest.convert_filter),
            offset=_converted(request, "offset", GrpcToRest.convert_point_id),
            limit=_given(request, "limit"),
            with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
        )
        page = self._points(context, request, "/scroll", asked)
        following = page["next_page_offset"]
        more = None if following is None else RestToGrpc.convert_extended_point_id(following)
        return messages.ScrollResponse(result=_records(page["points"]), next_page_offset=more)

    def Count(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        asked = models.CountRequest(
            filter=_converted(request, "filter", GrpcToRest.convert_filter), exact=True
        )
        counted = self._points(context, request, "/count", asked)
        return messages.CountResponse(result=messages.CountResult(count=counted["count"]))

    def Query(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        asked = GrpcToRest.convert_query_points(request)
        answer = self._points(context, request, "/query", asked)
        return messages.QueryResponse(result=_scored(answer))

    def QueryBatch(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        searches = [_json(GrpcToRest.convert_query_points(one)) for one in request.query_points]
        answers = self._points(context, request, "/query/batch", {"searches": searches})
        return messages.QueryBatchResponse(
            result=[messages.BatchResult(result=_scored(answer)) for answer in answers]
        )

    def QueryGroups(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        asked = models.QueryGroupsRequest(
            query=_converted(request, "query", GrpcToRest.convert_query),
            using=_given(request, "using"),
            filter=_converted(request, "filter", GrpcToRest.convert_filter),
            params=_converted(request, "params", GrpcToRest.convert_search_params),
            score_threshold=_given(request, "score_threshold"),
            with_payload=GrpcToRest.convert_with_payload_interface(request.with_payload),
            with_vector=GrpcToRest.convert_with_vectors_selector(request.with_vectors),
            group_by=request.group_by,
            limit=_given(request, "limit"),
            group_size=_given(request, "group_size"),
        )
        answer = self._points(context, request, "/query/groups", asked)
        groups = models.GroupsResult.model_validate(answer)
        return messages.QueryGroupsResponse(result=RestToGrpc.convert_groups_result(groups))

    def Facet(self, request: Any, context: grpc.ServicerContext) -> Any:  # noqa: N802
        asked = models.FacetRequest(
            key=request.key,
            filter=_converted(request, "filter", GrpcToRest.convert_filter),
            limit=_given(request, "limit"),
            exact=_given(request, "exact"),
        )
        path = f"/collections/{_name(request)}/facet"
        answer = models.FacetResponse.model_validate(self._ask(context, "POST", path, _json(asked)))
        hits = [RestToGrpc.convert_facet_value_hit(hit) for hit in answer.hits]
        return messages.FacetResponse(hits=hits)


@contextmanager
def serving(data: Path, api_key: str | None = None, busy: int = 0) -> Iterator[int]:
    """The services in this process, over a stand-in on a folder; yields their port."""
    with serving_grpc(Standin(str(data), api_key, busy)) as port:
        yield port


@contextmanager
def serving_grpc(standin: Standin) -> Iterator[int]:
    """The same over a stand-in."""
    server = grpc.server(ThreadPoolExecutor(4))
    messages.add_QdrantServicer_to_server(Root(standin), server)
    messages.add_CollectionsServicer_to_server(Collections(standin), server)
    messages.add_PointsServicer_to_server(Points(standin), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield port
    finally:
        server.stop(None).wait()
        standin.client.close()


def _abort(
    context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, headers: dict[str, str]
) -> NoReturn:
    context.set_trailing_metadata([(name.lower(), value) for name, value in headers.items()])
    context.abort(code, reason)
    raise AssertionError("abort raises")


def _name(request: Any) -> str:
    return str(request.collection_name)


def _json(model: BaseModel) -> dict[str, Any]:
    return model.model_dump(mode="json", exclude_none=True)


def _given(request: Any, field: str) -> Any:
    return getattr(request, field) if request.HasField(field) else None


def _converted(request: Any, field: str, convert: Callable[[Any], Any]) -> Any:
    return convert(getattr(request, field)) if request.HasField(field) else None


def _scored(answer: dict[str, Any]) -> list[Any]:
    found = [models.ScoredPoint.model_validate(one) for one in answer["points"]]
    return [RestToGrpc.convert_scored_point(one) for one in found]


def _records(found: list[Any]) -> list[Any]:
    full = [{**one, "payload": one["payload"] or {}} for one in found]  # the converter wants one
    return [RestToGrpc.convert_record(models.Record.model_validate(one)) for one in full]


def _completed() -> Any:
    result = messages.UpdateResult(operation_id=0, status=messages.UpdateStatus.Completed)
    return messages.PointsOperationResponse(result=result)
