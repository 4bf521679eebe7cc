"""Slow clients, clients that go away, and clients that do not stop: by real sockets."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Iterator, Sequence
from typing import Any

import httpx
import pytest

from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.query import Hits, Query
from fti_qdrant.serve.app import create_app
from fti_qdrant.serve.settings import ServeSettings
from tests.serve.running import running

SECONDS = 0.6


class Slow(AsyncComposedSearch):
    """A search whose queries take as long as their text says, and that counts how they end."""

    def __init__(self, search: ComposedSearch):
        super().__init__(search)
        self.began = self.ended = self.cancelled = 0

    async def query_many(self, queries: Sequence[Any]) -> list[Hits]:
        [query] = queries
        assert isinstance(query, Query)
        self.began += 1
        try:
            await asyncio.sleep(float(query.words))
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        self.ended += 1
        return [Hits([], query)]


@pytest.fixture(scope="module")
def slow(search: ComposedSearch) -> Slow:
    return Slow(search)


@pytest.fixture(scope="module")
def port(slow: Slow) -> Iterator[int]:
    settings = ServeSettings(max_seconds=SECONDS, max_requests=2, max_body=100_000)
    with running(create_app(slow, settings), settings) as port:
        yield port


def connect(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10)


def head(length: int | None, path: str = "/search") -> bytes:
    framing = "Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}"
    return (
        f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n{framing}\r\n\r\n"
    ).encode()


def read_all(connection: socket.socket) -> bytes:
    """Until the other side closes, or ten seconds are over."""
    parts = []
    while part := connection.recv(65536):
        parts.append(part)
    return b"".join(parts)


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_head_that_never_ends_is_not_waited_for(port: int):
    with connect(port) as connection:
        connection.sendall(b"POST /search HTTP/1.1\r\nHost: x\r\n")
        began = time.monotonic()
        assert read_all(connection) == b""
        assert SECONDS / 2 < time.monotonic() - began < SECONDS * 5


def test_nor_is_a_second_one_on_the_same_connection(port: int):
    with connect(port) as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"}"):
            answer += connection.recv(65536)
        connection.sendall(b"GET /hea")
        assert read_all(connection) == b""


def test_a_body_that_drips_gets_408(port: int):
    with connect(port) as connection:
        connection.sendall(head(1000))
        connection.settimeout(0.05)
        began, answer = time.monotonic(), b""
        while not answer and time.monotonic() - began < 10:
            connection.sendall(b" ")
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
        assert answer.startswith(b"HTTP/1.1 408"), answer
        assert b"application/problem+json" in answer


def test_a_client_that_takes_no_answer_is_left() -> None:
    """Nor one that takes a byte now and then: its answer would stay in memory."""
    size = 50_000_000

    async def large(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * size})

    settings = ServeSettings(max_seconds=SECONDS)
    with running(large, settings) as own, connect(own) as connection:  # type: ignore[arg-type]
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        began, taken = time.monotonic(), 0
        while time.monotonic() - began < SECONDS * 2:
            taken += len(connection.recv(1))
            time.sleep(0.05)
        try:
            while part := connection.recv(1 << 20):
                taken += len(part)
        except ConnectionResetError:
            pass
        assert taken < size


def test_an_answer_that_takes_too_long_is_503(port: int, slow: Slow):
    cancelled = slow.cancelled
    answer = httpx.post(f"http://127.0.0.1:{port}/search", json={"text": "30"})
    assert answer.status_code == 503
    assert answer.headers["retry-after"]
    assert slow.cancelled == cancelled + 1


def test_work_for_a_client_that_has_gone_is_cancelled(port: int, slow: Slow):
    began, cancelled, ended = slow.began, slow.cancelled, slow.ended
    body = b'{"text": "0.5"}'
    connection = connect(port)
    connection.sendall(head(len(body)) + body)
    wait_for(lambda: slow.began > began)
    connection.close()
    wait_for(lambda: slow.cancelled > cancelled)
    assert slow.ended == ended


def test_a_connection_that_is_cut_in_its_body_leaves_nothing(port: int, slow: Slow):
    began = slow.began
    for _ in range(5):
        connection = connect(port)
        connection.sendall(head(1000) + b'{"text"')
        connection.close()
    assert httpx.post(f"http://127.0.0.1:{port}/search", json={"text": "0"}).status_code == 200
    assert slow.began == began + 1


def test_more_requests_than_can_be_answered_are_503(port: int, slow: Slow):
    async def ask_all() -> list[httpx.Response]:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
            asked = [client.post("/search", json={"text": "0.3"}) for _ in range(8)]
            return await asyncio.gather(*asked)

    answers = asyncio.run(ask_all())
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses == [200] * 2 + [503] * 6
    assert all(answer.headers["retry-after"] for answer in answers if answer.status_code == 503)
    assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200


def test_a_body_without_an_end_is_refused_while_it_comes(port: int):
    """Chunks without a length, for as long as somebody listens."""
    chunk = b"%x\r\n" % 10_000 + b" " * 10_000 + b"\r\n"
    with connect(port) as connection:
        connection.sendall(head(None))
        sent, answer = 0, b""
        connection.settimeout(0.01)
        began = time.monotonic()
        while time.monotonic() - began < 10:
            try:
                connection.sendall(chunk)
                sent += len(chunk)
                answer += connection.recv(65536)
            except TimeoutError:
                continue
            except OSError:
                break
        assert answer.startswith(b"HTTP/1.1 413"), answer[:200]
        assert time.monotonic() - began < 5


def test_a_large_body_with_its_length_is_answered(port: int):
    """The whole of it comes in and is dropped; the client gets to read why."""
    answer = httpx.post(
        f"http://127.0.0.1:{port}/search",
        content=b" " * 100_000_000,
        headers={"content-type": "application/json"},
    )
    assert answer.status_code == 413
    assert answer.json()["title"] == "Body too large"


@pytest.mark.parametrize(
    "request_head",
    [
        b"GET /health HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\n" + b"X-A: 1\r\n" * 20_000 + b"\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"nonsense\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ],
    ids=["long header", "long path", "many headers", "TLS", "nonsense", "length", "two lengths"],
)
def test_heads_that_are_none_are_refused(port: int, request_head: bytes):
    with connect(port) as connection:
        connection.sendall(request_head)
        try:
            answer = connection.recv(65536)
        except ConnectionResetError:
            answer = b"HTTP/1.1 400"  # closed before all of it was read
        assert answer.startswith(b"HTTP/1.1 4"), answer
        assert b"Traceback" not in answer
    assert httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200


def test_what_was_seen_is_counted(port: int):
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    figures = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    route = 'method="POST",route="/search",status='
    for status in ("200", "408", "413", "499", "503"):
        assert float(figures[f'fti_serve_requests_total{{{route}"{status}"}}']) >= 1, status
    assert float(figures["fti_serve_requests_working"]) == 1  # this one
    assert float(figures['fti_serve_stage_seconds_count{stage="body"}']) >= 1
