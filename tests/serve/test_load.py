"""More than a service can do: nothing grows, nothing breaks, and what is answered is right."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import httpx
import pytest
from starlette.types import Message, Receive, Scope, Send

from fti_qdrant import AsyncComposedSearch, ComposedSearch
from fti_qdrant.serve.app import create_app
from fti_qdrant.serve.guard import RequestGuard
from fti_qdrant.serve.held import BODIES_HELD, Held
from fti_qdrant.serve.metrics import Metrics
from fti_qdrant.serve.settings import ServeSettings
from tests.serve.conftest import COLORS

CLIENTS, QUEUE = 64, 8


def test_64_clients_get_right_answers_or_503(search: ComposedSearch):
    """Several rounds: each client asks again at once, as a load test does."""
    service = AsyncComposedSearch(search, max_batch=4, max_queue=QUEUE)
    transport = httpx.ASGITransport(create_app(service))
    statuses: Counter[int] = Counter()
    waiting: list[int] = []

    async def one(client: httpx.AsyncClient, number: int) -> None:
        color = COLORS[number % len(COLORS)]
        for _ in range(5):
            body = {"text": f"a {color} square", "limit": 3}
            answer = await client.post("/search", json=body)
            waiting.append(service.waiting)
            statuses[answer.status_code] += 1
            if answer.status_code == 200:
                found = [hit["id"] for hit in answer.json()["hits"]]
                assert found == expected[color]
            else:
                assert int(answer.headers["retry-after"]) >= 1

    async def all_of_them() -> None:
        async with httpx.AsyncClient(transport=transport, base_url="http://service") as client:
            await asyncio.gather(*(one(client, number) for number in range(CLIENTS)))
            assert (await client.get("/ready")).status_code == 200

    expected = {
        color: [hit.id for hit in search.query(text=f"a {color} square", limit=3)]
        for color in COLORS
    }
    asyncio.run(all_of_them())
    assert statuses.keys() == {200, 503}
    assert max(waiting) <= QUEUE


class Reader:
    """An app that reads each body and then waits until it may answer."""

    def __init__(self) -> None:
        self.read = 0
        self.may_answer = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        while (await receive()).get("more_body"):
            pass
        self.read += 1
        await self.may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})


def ask(guard: RequestGuard, parts: list[bytes]) -> Any:
    """A request whose body comes in parts and whose client stays; returns its status."""

    async def asked() -> int:
        left = list(parts)
        status = 0

        async def receive() -> Message:
            if not left:
                await asyncio.Event().wait()  # the client waits for its answer
            return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

        async def send(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)

        scope = {"type": "http", "method": "POST", "path": "/", "headers": [], "query_string": b""}
        await guard(scope, receive, send)
        return status

    return asked()


@pytest.mark.parametrize("size", [1000, 100])
def test_bodies_take_no_more_memory_than_some_of_the_largest(size: int):
    async def main() -> list[int]:
        reader = Reader()
        settings = ServeSettings(max_body=1000, max_requests=1000)
        guard = RequestGuard(reader, settings, Metrics(), Held(BODIES_HELD * 1000))
        fit = BODIES_HELD * 1000 // size
        asking = [asyncio.ensure_future(ask(guard, [b"x" * size])) for _ in range(fit + 5)]
        while reader.read < fit or sum(task.done() for task in asking) < 5:
            await asyncio.sleep(0)
        reader.may_answer.set()
        statuses = await asyncio.gather(*asking)
        assert guard.held.size == 0
        assert await ask(guard, [b"x" * size]) == 200  # and there is room again
        return statuses

    statuses = Counter(asyncio.run(main()))
    assert statuses == {200: BODIES_HELD * 1000 // size, 503: 5}


def test_a_body_is_counted_part_by_part():
    async def main() -> tuple[int, int]:
        reader = Reader()
        reader.may_answer.set()
        guard = RequestGuard(reader, ServeSettings(max_body=1000), Metrics(), Held(10_000))
        return (
            await ask(guard, [b"x" * 100] * 10),
            await ask(guard, [b"x" * 100] * 10 + [b"x"]),
        )

    assert asyncio.run(main()) == (200, 413)
