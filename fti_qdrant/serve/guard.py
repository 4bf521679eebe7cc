"""What one request may cost: bytes, seconds, a place among those that are worked on."""

from __future__ import annotations

import anyio
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fti_qdrant.errors import FtiError, Overloaded
from fti_qdrant.serve.held import Held
from fti_qdrant.serve.metrics import Metrics, Seen
from fti_qdrant.serve.problems import Refusal, problem, unexpected
from fti_qdrant.serve.settings import ServeSettings

MAX_HEAD = 65_536


class RequestGuard:
    """Bounds each request, and cancels its work where its client has gone.

    A body is counted while it arrives, so that one without a length, or with a wrong one, is
    refused at the same byte. An error that nothing has handled becomes an answer here.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings, metrics: Metrics, held: Held):
        self.app = app
        self.settings = settings
        self.metrics = metrics
        self.working = 0
        self.held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        with self.metrics.request(scope) as seen:

            async def counted(message: Message) -> None:
                seen.sent(message)
                await send(message)

            refusal = self._refusal(scope)
            if refusal is not None:
                await problem(refusal)(scope, receive, counted)
                return
            self.working += 1
            body = Body(receive, self.settings.max_body, self.held)
            try:
                await self._bounded(scope, body, counted, seen)
            finally:
                self.working -= 1
                body.close()

    def _refusal(self, scope: Scope) -> FtiError | None:
        """What is wrong with a request as its head tells."""
        if head_bytes(scope) > MAX_HEAD:
            detail = f"path and headers are over {MAX_HEAD:,} bytes"
            return Refusal(431, "Head too large", detail)
        length = Headers(scope=scope).get("content-length", "")
        if length.isdigit() and int(length) > self.settings.max_body:
            return too_large(self.settings.max_body)
        if self.working >= self.settings.max_requests:
            return Overloaded(f"{self.working} requests are being answered; try again soon")
        return None

    async def _bounded(self, scope: Scope, body: Body, send: Send, seen: Seen) -> None:
        with anyio.move_on_after(self.settings.max_seconds) as time:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(body.pump, tasks.cancel_scope)
                try:
                    await self.app(scope, body.receive, send)
                except Exception as error:  # raised here, it would reach the server's own answer
                    response = problem(error) if isinstance(error, FtiError) else unexpected(error)
                    if not seen.started:
                        await response(scope, body.receive, send)
                tasks.cancel_scope.cancel()
        if time.cancelled_caught and not seen.started:
            await self._too_slow(body)(scope, body.receive, send)

    def _too_slow(self, body: Body) -> ASGIApp:
        seconds = f"{self.settings.max_seconds:g} s"
        if body.complete:
            return problem(Overloaded(f"there was no answer within {seconds}; try again later"))
        return problem(
            Refusal(408, "Request timeout", f"the request was not complete after {seconds}")
        )


def head_bytes(scope: Scope) -> int:
    """Of the path and the headers. The server bounds only a head that comes in parts."""
    headers = sum(len(name) + len(value) for name, value in scope["headers"])
    return headers + len(scope.get("raw_path") or b"") + len(scope["query_string"])


def too_large(most: int) -> Refusal:
    """The error for a body."""
    detail = f"the body is over the limit of {most:,} bytes; scale the pictures down"
    return Refusal(413, "Body too large", detail)


class Body:
    """A request's body as it arrives, one message ahead, so that a client's end is noticed."""

    def __init__(self, receive: Receive, most: int, held: Held):
        """Args:
        most: bytes of it.
        held: of all bodies.
        """
        self.complete = False
        self._source = receive
        self._most = most
        self._held = held
        self._size = 0
        self._send, self._receive = anyio.create_memory_object_stream[Message](0)

    async def pump(self, work: anyio.CancelScope) -> None:
        """Hands on messages until the client has gone, and then cancels the work."""
        while True:
            message = await self._source()
            if message["type"] == "http.disconnect":
                work.cancel()
                return
            self.complete = not message.get("more_body", False)
            await self._send.send(message)

    async def receive(self) -> Message:
        """The next message. Raises Refusal over the limit, Overloaded over that of all bodies."""
        message = await self._receive.receive()
        size = len(message.get("body", b""))
        if self._size + size > self._most:
            raise too_large(self._most)
        self._size += size
        self._held.add(size)
        return message

    def close(self) -> None:
        """The body is no longer needed."""
        self._held.remove(self._size)
        self._send.close()
        self._receive.close()
