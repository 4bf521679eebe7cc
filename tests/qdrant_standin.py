"""A stand-in for a Qdrant server: its HTTP interface over qdrant-client's local mode.

    python tests/qdrant_standin.py --data DIR [--port N] [--api-key KEY] [--busy N] [--die-after N]
        [--certificate PEM]

Only the endpoints that a gallery and ray-qdrant use. It prints its URL once it listens. What it
acknowledged is on disk, so a stand-in on the same folder after a crash has it still.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from qdrant_client import QdrantClient, models

Body = dict[str, Any]

WRITES = ("/points/delete", "/collections/aliases")
"""Paths of changes that are sent by POST."""


class Refused(Exception):
    """An answer that is not 200."""

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None):
        super().__init__(message)
        self.status = status
        self.headers = headers or {}


class Standin:
    """Answers requests; one at a time, as local mode is not safe for threads.

    Args:
        busy: so many upserts are turned away first, by turns with 503 and with 429 and a
            Retry-After.
        die_after: the process ends without an answer at the upsert after so many.

    Attributes:
        asked: method and path of each request.
    """

    def __init__(self, data: str, api_key: str | None = None, busy: int = 0, die_after: int = -1):
        self.data = Path(data)
        self.client = QdrantClient(path=data, force_disable_check_same_thread=True)
        self.api_key = api_key
        self.busy = busy
        self.upserts_left = die_after
        self.lock = threading.Lock()
        self.version: str | None = "1.18.3"
        self.asked: list[str] = []
        self.refusals: list[tuple[int, str]] = []  # instead of the next answers
        self.fail_after = -1  # so many more uploads are taken
        self.hidden: tuple[str, ...] = ()  # what the key may not ask for
        self.read_only = False  # as for a key that may only read
        self.strict: models.StrictModeConfigOutput | None = None
        points = r"/collections/([^/]+)/points"
        self.routes: list[tuple[str, str, Callable[..., Any]]] = [
            ("GET", r"/", self.root),
            ("GET", r"/collections", self.collections),
            ("GET", r"/aliases", self.aliases),
            ("POST", r"/collections/aliases", self.change_aliases),
            ("GET", r"/collections/([^/]+)/exists", self.exists),
            ("GET", r"/collections/([^/]+)", self.describe),
            ("PUT", r"/collections/([^/]+)", self.create),
            ("PATCH", r"/collections/([^/]+)", self.change),
            ("DELETE", r"/collections/([^/]+)", self.drop),
            ("PUT", r"/collections/([^/]+)/index", self.index),
            ("PUT", r"/collections/([^/]+)/vectors/([^/]+)", self.create_vector),
            ("PUT", points + "/vectors", self.update_vectors),
            ("PUT", points, self.upsert),
            ("POST", points, self.retrieve),
            ("POST", points + "/query", self.query),
            ("POST", points + "/query/batch", self.query_batch),
            ("POST", points + "/query/groups", self.query_groups),
            ("POST", r"/collections/([^/]+)/facet", self.facet),
            ("POST", points + "/scroll", self.scroll),
            ("POST", points + "/count", self.count),
            ("POST", points + "/delete", self.delete),
        ]

    def answer(self, method: str, path: str, body: Body, api_key: str | None) -> Any:
        self.asked.append(f"{method} {path}")
        if self.api_key and api_key != self.api_key and path != "/":
            raise Refused(401, "Must provide an API key or an Authorization bearer token")
        if self.refusals:
            raise Refused(*self.refusals.pop(0))
        if path in self.hidden:
            raise Refused(403, "Forbidden: Global read access is required")
        if self.read_only and (method in ("PUT", "PATCH", "DELETE") or path.endswith(WRITES)):
            raise Refused(403, "Forbidden: Write access is required")
        for wanted, pattern, handler in self.routes:
            found = re.fullmatch(pattern, path)
            if method == wanted and found:
                with self.lock:
                    name = found.groups()
                    if name and handler not in (self.exists, self.create):
                        self._check_exists(name[0])
                        name = (self._collection_of(name[0]), *name[1:])
                        if self.strict is not None:
                            self._check_strict(name[0], self.strict, body)
                    return _plain(handler(*name, body))
        raise Refused(404, f"the stand-in does not know {method} {path}")

    def root(self, body: Body) -> Any:
        """The one answer that is not wrapped as a result."""
        if self.version is None:
            raise Refused(403, "Forbidden")
        return {"title": "qdrant - vector search engine", "version": self.version}

    def collections(self, body: Body) -> Any:
        return self.client.get_collections()

    def aliases(self, body: Body) -> Any:
        return self.client.get_aliases()

    def change_aliases(self, body: Body) -> Any:
        asked = models.ChangeAliasesOperation.model_validate(body)
        return self.client.update_collection_aliases(asked.actions)

    def exists(self, name: str, body: Body) -> Any:
        return {"exists": self.client.collection_exists(name)}

    def describe(self, name: str, body: Body) -> Any:
        """Local mode forgets how a collection is to be kept and indexed; the file does not."""
        info = _plain(self.client.get_collection(name))
        kept = self._settings(name)
        info["config"]["params"].update(kept["params"])
        info["config"]["hnsw_config"].update(kept["hnsw"])
        info["config"]["strict_mode_config"] = _plain(self.strict)
        info["payload_schema"] = {
            field: {"data_type": kind, "points": 0} for field, kind in kept["indexes"].items()
        }
        return info

    def create(self, name: str, body: Body) -> Any:
        if self._collection_of(name) != name or self.client.collection_exists(name):
            raise Refused(409, f"Wrong input: Collection `{name}` already exists!")
        asked = models.CreateCollection.model_validate(body)
        names = ("vectors", "shard_number", "replication_factor", "on_disk_payload")
        params = {key: body[key] for key in names if body.get(key) is not None}
        self._keep(name, {"params": params, "hnsw": {}, "indexes": {}})
        return self.client.create_collection(
            name, vectors_config=asked.vectors, metadata=asked.metadata
        )

    def change(self, name: str, body: Body) -> Any:
        asked = models.UpdateCollection.model_validate(body)
        kept = self._settings(name)
        kept["hnsw"].update(body.get("hnsw_config") or {})
        for vector, diff in (body.get("vectors") or {}).items():
            params = kept["params"]["vectors"]
            if vector not in params:
                raise Refused(400, f"Wrong input: Not existing vector name error: {vector}")
            params[vector].update({key: one for key, one in diff.items() if one is not None})
        self._keep(name, kept)
        if asked.metadata is not None:
            self.client.update_collection(name, metadata=asked.metadata)
        return True

    def drop(self, name: str, body: Body) -> Any:
        return self.client.delete_collection(name)

    def index(self, name: str, body: Body) -> Any:
        """Local mode has no indexes; what is there is told all the same."""
        asked = models.CreateFieldIndex.model_validate(body)
        kept = self._settings(name)
        kind: Any = asked.field_schema
        kept["indexes"][asked.field_name] = getattr(kind, "type", kind).value
        self._keep(name, kept)
        return {"operation_id": 0, "status": "completed"}

    def upsert(self, name: str, body: Body) -> Any:
        if self.upserts_left == 0:
            os._exit(1)
        if self.fail_after == 0:
            raise Refused(500, "disk is full")
        self.fail_after -= 1
        if self.busy > 0:
            self.busy -= 1
            raise (
                Refused(429, "Rate limiting exceeded", {"Retry-After": "1"})
                if self.busy % 2 == 0
                else Refused(503, "Service temporarily unavailable")
            )
        self.upserts_left -= 1
        if "batch" in body:
            points: Any = models.Batch.model_validate(body["batch"])
        else:
            points = [models.PointStruct.model_validate(one) for one in body["points"]]
        return self.client.upsert(name, points)

    def create_vector(self, name: str, vector: str, body: Body) -> Any:
        """As 1.18 does: how it is indexed and kept is said afterwards."""
        if (self.version or "") < "1.18":
            raise Refused(404, "")
        asked = models.DenseVectorNameConfig.model_validate(body)
        self.client.create_vector_name(name, vector, asked)
        kept = self._settings(name)
        vectors = kept["params"]["vectors"]
        vectors = {"": vectors} if "size" in vectors else vectors
        dense = asked.dense.model_dump(mode="json", exclude_none=True)
        kept["params"]["vectors"] = {**vectors, vector: dense}
        self._keep(name, kept)
        return {"operation_id": 0, "status": "completed"}

    def update_vectors(self, name: str, body: Body) -> Any:
        asked = models.UpdateVectors.model_validate(body)
        return self.client.update_vectors(name, asked.points)

    def retrieve(self, name: str, body: Body) -> Any:
        asked = models.PointRequest.model_validate(body)
        vectors = asked.with_vector or False
        return self.client.retrieve(name, asked.ids, asked.with_payload, with_vectors=vectors)

    def query(self, name: str, body: Body) -> Any:
        asked = models.QueryRequest.model_validate(body)
        return self.client.query_batch_points(name, [asked])[0]

    def query_batch(self, name: str, body: Body) -> Any:
        asked = models.QueryRequestBatch.model_validate(body)
        return self.client.query_batch_points(name, asked.searches)

    def query_groups(self, name: str, body: Body) -> Any:
        asked = models.QueryGroupsRequest.model_validate(body)
        return self.client.query_points_groups(
            name,
            asked.group_by,
            query=asked.query,
            using=asked.using,
            query_filter=asked.filter,
            search_params=asked.params,
            limit=asked.limit or 10,
            group_size=asked.group_size or 3,
            with_payload=asked.with_payload if asked.with_payload is not None else False,
            with_vectors=asked.with_vector or False,
            score_threshold=asked.score_threshold,
        )

    def facet(self, name: str, body: Body) -> Any:
        asked = models.FacetRequest.model_validate(body)
        return self.client.facet(name, asked.key, asked.filter, asked.limit or 10)

    def scroll(self, name: str, body: Body) -> Any:
        asked = models.ScrollRequest.model_validate(body)
        points, following = self.client.scroll(
            name,
            scroll_filter=asked.filter,
            limit=asked.limit or 10,
            offset=asked.offset,
            with_payload=asked.with_payload if asked.with_payload is not None else True,
            with_vectors=asked.with_vector or False,
        )
        return {"points": points, "next_page_offset": following}

    def count(self, name: str, body: Body) -> Any:
        asked = models.CountRequest.model_validate(body)
        return self.client.count(name, count_filter=asked.filter)

    def delete(self, name: str, body: Body) -> Any:
        selector: Any = TypeAdapter(models.PointsSelector).validate_python(body)
        return self.client.delete(name, selector)

    def _check_strict(self, name: str, strict: models.StrictModeConfigOutput, body: Body) -> None:
        """As strict mode refuses: in one sentence, with what to do."""
        searches = body.get("searches", [body])
        limits = {
            "limit": (max(one.get("limit") or 0 for one in searches), strict.max_query_limit),
            "batchsize": (len(body.get("points", [])), strict.upsert_max_batchsize),
            "search_batchsize": (len(searches), strict.search_max_batchsize),
        }
        for key, (value, most) in limits.items():
            if most is not None and value > most:
                told = f'Limit exceeded {value} > {most} for "{key}"'
                help = f'Help: Reduce the "{key}" parameter to or below {most}.'
                raise Refused(400, f"Bad request: {told}. {help}")
        if strict.unindexed_filtering_retrieve is False:
            indexed = {"_fti.sha256", *self._settings(name)["indexes"]}
            filters = json.dumps([one.get("filter") for one in searches])
            for key in sorted({*re.findall(r'"key": "([^"]+)"', filters)} - indexed):
                told = f'Index required but not found for "{key}" of one of the following types: '
                help = "Help: Create an index for this key or use a different filter."
                raise Refused(400, f"Bad request: {told}[keyword, uuid]. {help}")

    def _settings(self, name: str) -> dict[str, Body]:
        kept: dict[str, Body] = json.loads((self.data / f"{name}.json").read_text())
        return kept

    def _keep(self, name: str, settings: dict[str, Body]) -> None:
        (self.data / f"{name}.json").write_text(json.dumps(settings))

    def _collection_of(self, name: str) -> str:
        """What an alias stands for."""
        held = {one.alias_name: one.collection_name for one in self.client.get_aliases().aliases}
        return held.get(name, name)

    def _check_exists(self, name: str) -> None:
        if not self.client.collection_exists(name):
            raise Refused(404, f"Not found: Collection `{name}` doesn't exist!")


def _plain(value: Any) -> Any:
    """pydantic models, alone or inside, as JSON has them."""
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    return value.model_dump(mode="json") if hasattr(value, "model_dump") else value


def handler_of(standin: Standin) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _serve(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or b"{}")
            path = self.path.partition("?")[0]
            try:
                result = standin.answer(self.command, path, body, self.headers.get("api-key"))
            except Refused as refused:
                self._send(refused.status, {"status": {"error": str(refused)}}, refused.headers)
            except Exception as error:
                self._send(400, {"status": {"error": f"{type(error).__name__}: {error}"}}, {})
            else:
                if path == "/":
                    self._send(200, result, {})
                    return
                self._send(200, {"result": result, "status": "ok", "time": 0.001}, {})

        do_GET = do_PATCH = do_PUT = do_POST = do_DELETE = _serve  # noqa: N815

        def _send(self, status: int, answer: Body, headers: dict[str, str]) -> None:
            data = json.dumps(answer).encode()
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def serving_rest(data: Path) -> Iterator[int]:
    """A stand-in in this process, on a folder; yields its port."""
    with serving_standin(Standin(str(data))) as port:
        yield port


@contextmanager
def serving_standin(standin: Standin, grpc: bool = False) -> Iterator[int]:
    """A stand-in in this process, over HTTP or gRPC; yields its port."""
    if grpc:
        from tests.qdrant_grpc_standin import serving_grpc

        with serving_grpc(standin) as port:
            yield port
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(standin))
    serve = {"poll_interval": 0.02}
    threading.Thread(target=server.serve_forever, kwargs=serve, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        standin.client.close()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", required=True)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--api-key")
    parser.add_argument("--busy", type=int, default=0)
    parser.add_argument("--die-after", type=int, default=-1)
    parser.add_argument("--certificate", help="PEM with key and certificate; then it speaks TLS.")
    chosen = parser.parse_args()
    standin = Standin(chosen.data, chosen.api_key, chosen.busy, chosen.die_after)
    server = ThreadingHTTPServer(("127.0.0.1", chosen.port), handler_of(standin))
    if chosen.certificate:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(chosen.certificate)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "https" if chosen.certificate else "http"
    print(f"{scheme}://127.0.0.1:{server.server_address[1]}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
