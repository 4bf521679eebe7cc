"""A run's counters for Prometheus: by Ray's own agents on a cluster, else by this process.

``fti_ingest_images_total`` by outcome, ``fti_ingest_stage_seconds_total`` by stage, and
``fti_ingest_source_images``. Ray puts ``ray_`` before these names.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from fti_ingest.engine.protocol import Engine
from fti_ingest.run.outcome import Outcome
from fti_qdrant.errors import FtiError

OUTCOMES = ("stored", "updated", "unchanged", "rejected", "skipped")
IMAGES = "fti_ingest_images", "Images done, by what became of them."
SECONDS = "fti_ingest_stage_seconds", "Seconds of work, by stage."
SOURCE = "fti_ingest_source_images", "Images that the source lists."


class Exporter(Protocol):
    """Where counters are published."""

    def add(self, name: str, value: str, amount: float) -> None:
        """Adds to the counter ``images`` or ``seconds``, for one outcome or stage."""
        ...


class Metrics:
    """Follows an outcome as it grows."""

    def __init__(self, exporter: Exporter | None):
        self.exporter = exporter
        self._published: dict[tuple[str, str], float] = {}

    @classmethod
    @contextmanager
    def of(cls, engine: Engine, gallery: str, images: int, port: int | None) -> Iterator[Metrics]:
        """Publishes while the run goes on. Raises FtiError where the port cannot be used."""
        if engine.name == "ray":
            yield cls(RayExporter(gallery, images))
        elif port is None:
            yield cls(None)
        else:
            with _served(gallery, images, port) as exporter:
                yield cls(exporter)

    def follow(self, outcome: Outcome) -> None:
        """Publishes what has come since the last call."""
        for name in OUTCOMES:
            self._add("images", name, getattr(outcome, name))
        for stage, seconds in outcome.stages.items():
            self._add("seconds", stage, seconds)

    def _add(self, counter: str, value: str, total: float) -> None:
        before = self._published.get((counter, value), 0.0)
        if self.exporter is not None and total > before:
            self.exporter.add(counter, value, total - before)
            self._published[counter, value] = total


class RayExporter:
    """Counters of Ray: each node's agent serves them, where ray[default] is installed."""

    def __init__(self, gallery: str, images: int):
        from ray.util.metrics import Counter, Gauge

        tags = {"gallery": gallery}
        self._counters = {
            "images": (Counter(*IMAGES, ("gallery", "outcome")), "outcome"),
            "seconds": (Counter(*SECONDS, ("gallery", "stage")), "stage"),
        }
        for counter, _ in self._counters.values():
            counter.set_default_tags(tags)
        Gauge(*SOURCE, ("gallery",)).set(images, tags)

    def add(self, name: str, value: str, amount: float) -> None:
        counter, key = self._counters[name]
        counter.inc(amount, {key: value})


class ServedExporter:
    """Counters of prometheus_client."""

    def __init__(self, gallery: str, images: int):
        from prometheus_client import CollectorRegistry, Counter, Gauge

        self.registry = CollectorRegistry()
        self._gallery = gallery
        self._counters = {
            "images": Counter(*IMAGES, ("gallery", "outcome"), registry=self.registry),
            "seconds": Counter(*SECONDS, ("gallery", "stage"), registry=self.registry),
        }
        Gauge(*SOURCE, ("gallery",), registry=self.registry).labels(gallery).set(images)

    def add(self, name: str, value: str, amount: float) -> None:
        self._counters[name].labels(self._gallery, value).inc(amount)


@contextmanager
def _served(gallery: str, images: int, port: int) -> Iterator[Exporter]:
    from prometheus_client import start_http_server

    exporter = ServedExporter(gallery, images)
    try:
        server, thread = start_http_server(port, registry=exporter.registry)
    except OSError as error:
        raise FtiError(f"--metrics-port {port} cannot be used: {error}; choose another") from error
    try:
        yield exporter
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
