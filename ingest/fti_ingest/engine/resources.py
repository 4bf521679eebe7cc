"""What is asked of a Ray cluster, and whether it has that: Ray itself waits in silence."""

from __future__ import annotations

import math
import os
from typing import Any

import click

from fti_ingest.engine.session import is_joined
from fti_ingest.run.outcome import Capacity
from fti_qdrant.errors import FtiError

DECODE_BATCH = 32
EMBED_BATCH, GPU_BATCH = 64, 256

BACKLOG = 8
"""Batches of pixels, for each model, that may wait between the stages."""


def model_pool(workers: int, gpus_per_worker: float = 0) -> dict[str, Any]:
    """So many actors that hold a model, or that write: options of ``Dataset.map_batches``.

    Raises FtiError as ``check_gpus``.
    """
    from ray.data import ActorPoolStrategy

    check_gpus(workers, gpus_per_worker)
    return {
        "compute": ActorPoolStrategy(size=workers),
        "num_cpus": 0,
        "num_gpus": gpus_per_worker or None,
    }


def check_gpus(workers: int, gpus_per_worker: float) -> None:
    """Raises FtiError where a Ray of our own has not so many; a cluster may grow, and is told."""
    wanted, there = workers * gpus_per_worker, _there("GPU")
    if wanted > there:
        _lacking(
            f"workers={workers} with gpus_per_worker={gpus_per_worker:g} need {wanted:g} GPUs; "
            f"the cluster has {there:g}"
        )


def bound_backlog(picture: int, workers: int, batch: int) -> None:
    """Decoding runs ahead of the model; Ray alone would let it fill half of the object store.

    Args:
        picture: bytes of one decoded picture.
        batch: pictures that a model takes at once.

    Raises FtiError where a Ray of our own has no CPU to decode on.
    """
    from ray.data import DataContext, ExecutionResources

    decoders = int(_there("CPU"))
    if not decoders:
        _lacking("the Ray cluster has no CPU to decode on")
    backlog = (BACKLOG * workers * batch + decoders * DECODE_BATCH) * picture
    options = DataContext.get_current().execution_options
    options.resource_limits = ExecutionResources.for_limits(object_store_memory=backlog)


def threads_per_worker(workers: int) -> int:
    """CPU threads for each of the model's processes, where they spread over Ray's nodes evenly."""
    import ray

    nodes = max(1, sum(node["Alive"] for node in ray.nodes()))
    return max(1, cpus() // math.ceil(workers / nodes))


def capacity(workers: int, writers: int) -> Capacity:
    """What the running cluster gives a run; nodes with CPUs may have left it since."""
    return Capacity(max(1, int(_there("CPU"))), workers, writers)


def _there(resource: str) -> float:
    import ray

    return float(ray.cluster_resources().get(resource, 0))


def _lacking(what: str) -> None:
    if not is_joined():
        raise FtiError(what)
    click.echo(f"note: {what}; waiting for nodes to join", err=True)


def cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
