"""uvicorn, with patience for requests that come slowly, but not without an end."""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
from types import FrameType
from typing import Any

import h11
import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.h11_impl import H11Protocol

from fti_qdrant.serve.settings import ServeSettings

GRACE = 10
"""Seconds that running requests have to end when the service stops."""


def run(app: FastAPI, listening: socket.socket, settings: ServeSettings) -> None:
    """Serves until Ctrl-C, which raises KeyboardInterrupt, or SIGTERM, which raises SystemExit.

    Without a handler of our own, the second would end the process before galleries are closed:
    uvicorn raises each signal again after it has stopped.
    """
    before = signal.signal(signal.SIGTERM, _leave)
    try:
        server_of(app, settings).run(sockets=[listening])
    finally:
        signal.signal(signal.SIGTERM, before)


def server_of(app: FastAPI, settings: ServeSettings) -> uvicorn.Server:
    """A server that is not started yet."""

    class Connection(PatientConnection):
        seconds = settings.max_seconds

    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=Connection,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=GRACE,
        )
    )


def _leave(number: int, frame: FrameType | None) -> None:
    sys.exit(0)


class PatientConnection(H11Protocol):
    """Ends a connection where nothing goes on for too long, in either direction.

    uvicorn waits for ever for the end of a request's head (h11 limits its size to 64 KB), for what
    is left of a body after its answer, and for a client to take its answer. The time of a body is
    the app's to count.
    """

    seconds: float = 30.0
    _timer: asyncio.TimerHandle | None = None
    _sending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop()
        self._stop_sending()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._stop()
        elif self.conn.their_state is h11.IDLE and self._timer is None:
            self._wait()  # the first bytes of a further request

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self.conn.their_state is h11.SEND_BODY:  # more than was read comes in, and is dropped
            self._wait()

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stop_sending()
        self._sending = self.loop.call_later(self.seconds, self.transport.abort)

    def resume_writing(self) -> None:
        self._stop_sending()
        super().resume_writing()

    def _wait(self) -> None:
        self._stop()
        self._timer = self.loop.call_later(self.seconds, self.transport.abort)

    def _stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_sending(self) -> None:
        if self._sending is not None:
            self._sending.cancel()
            self._sending = None
