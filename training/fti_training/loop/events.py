"""What a training worker tells the driver while it trains."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from fti_ingest.sources.listing import Reject


@dataclass(frozen=True)
class Began:
    """Training begins, or goes on, after ``step`` steps."""

    step: int


@dataclass(frozen=True)
class Stepped:
    """After ``step`` steps: losses of the global batch, mean r, images/s, learning rate."""

    step: int
    parts: dict[str, float]


@dataclass(frozen=True)
class Validated:
    """After ``step`` steps: zero-shot figures."""

    step: int
    figures: dict[str, float]


@dataclass(frozen=True)
class Skipped:
    """A picture that could not be read."""

    reject: Reject


Event = Began | Stepped | Validated | Skipped


@dataclass
class Mailbox:
    """An actor's queue that workers post to without waiting."""

    queue: Any = field(repr=False)

    @staticmethod
    def open() -> Mailbox:
        from ray.util.queue import Queue

        return Mailbox(Queue(actor_options={"num_cpus": 0}))

    def post(self, event: Event) -> None:
        self.queue.actor.put_nowait.remote(event)

    def take(self, seconds: float) -> Event | None:
        """The next event, or None where none comes in time."""
        from ray.util.queue import Empty

        try:
            event: Event = self.queue.get(timeout=seconds)
        except Empty:
            return None
        return event
