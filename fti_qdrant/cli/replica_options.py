"""Options of a service: how it gathers queries, and how many replicas of it there are."""

from __future__ import annotations

import functools
import os
import signal
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fti_qdrant.cli.extras import need
from fti_qdrant.cli.user_text import print_lines
from fti_qdrant.cli.worker_options import ray_address_option
from fti_qdrant.query_batches import BatchLimits

if TYPE_CHECKING:
    from fti_qdrant.serve.plan import ServicePlan

F = TypeVar("F", bound=Callable[..., Any])

BATCHING = (
    click.option(
        "--max-batch",
        type=click.IntRange(1),
        default=BatchLimits.max_batch,
        show_default=True,
        help="Most queries in one pass of the model.",
    ),
    click.option(
        "--max-queue",
        type=click.IntRange(1),
        default=BatchLimits.max_queue,
        show_default=True,
        help="Most queries that wait or run at a time; others are asked to come back.",
    ),
    click.option(
        "--max-wait",
        type=click.FloatRange(0, 1),
        default=BatchLimits.max_wait,
        show_default=True,
        help="Most seconds that a query waits for others after a batch.",
    ),
)

REPLICAS = (
    click.option(
        "--replicas",
        type=click.IntRange(1),
        help="Processes that each hold the model, by Ray Serve; needs a Qdrant server and "
        "fti-qdrant[replicas].  [default: this process alone]",
    ),
    click.option(
        "--gpus-per-replica",
        type=click.FloatRange(min=0),
        default=0,
        show_default=True,
        help="GPUs for each replica; may be a fraction.",
    ),
    click.option(
        "--cpus-per-replica",
        type=click.FloatRange(min=0),
        default=1,
        show_default=True,
        help="Cores that Ray sets aside for each replica.",
    ),
    ray_address_option,
)


@dataclass(frozen=True)
class ReplicaChoice:
    """What the user asked for; ``count`` is None for this process alone."""

    count: int | None = None
    gpus: float = 0.0
    cpus: float = 1.0
    ray_address: str | None = None

    def check(self, writes: bool) -> None:
        """Asks for what replicas need before any work is done.

        Raises FtiError, UsageError.
        """
        if self.count is None:
            if self.gpus:
                raise click.UsageError("--gpus-per-replica needs --replicas")
            return
        if writes:
            raise click.UsageError(
                "--allow-writes keeps pictures in a folder of one process, and --replicas are "
                "several; write by fti-ingest, or by one fti-serve beside them"
            )
        need("ray", "replicas")
        need("grpc_reflection", "replicas")

    def serve(self, plan: ServicePlan, host: str, port: int) -> None:
        """Serves until Ctrl-C or SIGTERM, on a Ray that is joined, or started here.

        Raises FtiError: see ``ray_serve.start``; no cluster answers.
        """
        from fti_ingest.engine.session import quiet_ray

        assert self.count is not None
        os.environ.setdefault("RAY_SERVE_LOG_TO_STDERR", "0")
        with quiet_ray(self.ray_address):
            from fti_qdrant.serve.ray_serve import Replicas, start, stop

            try:
                start(plan, Replicas(self.count, self.gpus, self.cpus), host, port)
                shown = f"[{host}]" if ":" in host else host
                print_lines(
                    f"{self.count} replicas; open http://{shown}:{port}/ (Ctrl-C stops them)",
                    err=True,
                )
                _wait_for_end()
            finally:
                stop(alone=self.ray_address is None)


def replica_options(command: F) -> F:
    """Adds the options; the command gets ``batching`` and ``replicas``."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        max_batch: int,
        max_queue: int,
        max_wait: float,
        replicas: int | None,
        gpus_per_replica: float,
        cpus_per_replica: float,
        ray_address: str | None,
        **options: Any,
    ) -> Any:
        choice = ReplicaChoice(replicas, gpus_per_replica, cpus_per_replica, ray_address)
        limits = BatchLimits(max_batch, max_queue, max_wait)
        return command(*args, batching=limits, replicas=choice, **options)

    for option in reversed((*BATCHING, *REPLICAS)):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]


def _wait_for_end() -> None:
    ended = threading.Event()
    for one in (signal.SIGINT, signal.SIGTERM):
        signal.signal(one, lambda *_: ended.set())
    while not ended.wait(1):
        pass
