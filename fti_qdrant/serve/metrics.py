"""What Prometheus reads at ``/metrics``: requests, seconds by stage, batch sizes, the queue."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import Message, Scope

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
SIZES = (1, 2, 4, 8, 16, 32, 64)

CLIENT_GONE = 499
"""Status of requests whose client did not wait, as nginx counts them."""

PAGE = "page"
"""Route of the page's files."""


class Seen:
    """What a request has been answered so far."""

    status = CLIENT_GONE

    @property
    def started(self) -> bool:
        return self.status != CLIENT_GONE

    def sent(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]


class Metrics:
    """The figures of one service, in a registry of their own.

    It is the ``BatchObserver`` of the search that the service answers by.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._requests = Counter(
            "fti_serve_requests",
            "Requests, by route and status; 499: the client did not wait.",
            ("method", "route", "status"),
            registry=self.registry,
        )
        self._working = Gauge(
            "fti_serve_requests_working", "Requests that are worked on.", registry=self.registry
        )
        self._seconds = Histogram(
            "fti_serve_request_seconds",
            "Seconds from a request's head to the end of its answer, by route.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._stages = Histogram(
            "fti_serve_stage_seconds",
            "Seconds of a request's stages: body, then of its queries read (their pictures), wait "
            "(for the model), model and store; picture.",
            ("stage",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._batch_sizes = Histogram(
            "fti_serve_batch_size",
            "Queries that have passed the model together.",
            buckets=SIZES,
            registry=self.registry,
        )
        self._queue = Gauge(
            "fti_serve_queue", "Queries that wait for the model.", registry=self.registry
        )
        self._refused = Counter(
            "fti_serve_overloaded", "Queries that found the queue full.", registry=self.registry
        )

    def batch_done(self, queries: int, waiting: int, seconds: float) -> None:
        """See ``BatchObserver``."""
        self._batch_sizes.observe(queries)
        self.stage_done("model", seconds)

    def stage_done(self, stage: str, seconds: float) -> None:
        """See ``BatchObserver``."""
        self._stages.labels(stage).observe(seconds)

    def refused(self) -> None:
        """See ``BatchObserver``."""
        self._refused.inc()

    @contextmanager
    def request(self, scope: Scope) -> Iterator[Seen]:
        """Counts a request from its head to its end."""
        seen, began = Seen(), time.perf_counter()
        self._working.inc()
        try:
            yield seen
        finally:
            self._working.dec()
            route = getattr(scope.get("route"), "path", PAGE)
            method = scope["method"] if scope["method"] in ("GET", "POST", "DELETE") else "other"
            self._requests.labels(method, route, str(seen.status)).inc()
            self._seconds.labels(route).observe(time.perf_counter() - began)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measures a stage of a request."""
        began = time.perf_counter()
        try:
            yield
        finally:
            self.stage_done(name, time.perf_counter() - began)

    def watch_queue(self, waiting: Callable[[], float]) -> None:
        """``waiting`` says how many queries wait, when it is asked."""
        self._queue.set_function(waiting)

    def text(self) -> bytes:
        """In Prometheus' text format."""
        return generate_latest(self.registry)
