"""What is asked of a Ray cluster, and whether it has that: Ray itself would wait for ever."""

from __future__ import annotations

import math
import os
from typing import Any

from tenacity import Retrying, retry_if_result, stop_after_delay, wait_fixed

from fti_ingest.outcome import Capacity
from fti_qdrant.errors import FtiError

DECODE_BATCH = 32
EMBED_BATCH, GPU_BATCH = 64, 256

JOINING = 60
"""Seconds for the nodes of a cluster to come."""

BACKLOG = 8
"""Batches of pixels, for each model, that may wait between the stages."""


def model_pool(workers: int, gpus_per_worker: float = 0) -> dict[str, Any]:
    """So many actors that hold a model, or that write: options of ``Dataset.map_batches``.

    Raises FtiError where the cluster has not so many GPUs.
    """
    from ray.data import ActorPoolStrategy

    check_gpus(workers, gpus_per_worker)
    return {
        "compute": ActorPoolStrategy(size=workers),
        "num_cpus": 0,
        "num_gpus": gpus_per_worker or None,
    }


def check_gpus(workers: int, gpus_per_worker: float) -> None:
    """Raises FtiError where the cluster has not so many."""
    wanted = workers * gpus_per_worker
    there = _joined("GPU", wanted)
    if wanted > there:
        raise FtiError(
            f"workers={workers} with gpus_per_worker={gpus_per_worker:g} need {wanted:g} GPUs; "
            f"the cluster has {there:g}"
        )


def bound_backlog(picture: int, workers: int, batch: int) -> None:
    """Decoding runs ahead of the model; Ray alone would let it fill half of the object store.

    Args:
        picture: bytes of one decoded picture.
        batch: pictures that a model takes at once.

    Raises FtiError where the cluster has no CPU to decode on.
    """
    from ray.data import DataContext, ExecutionResources

    decoding = _decoders() * DECODE_BATCH
    backlog = (BACKLOG * workers * batch + decoding) * picture
    options = DataContext.get_current().execution_options
    options.resource_limits = ExecutionResources.for_limits(object_store_memory=backlog)


def threads_per_worker(workers: int) -> int:
    """CPU threads for each of the model's processes, where they spread over Ray's nodes evenly."""
    import ray

    nodes = max(1, sum(node["Alive"] for node in ray.nodes()))
    return max(1, cpus() // math.ceil(workers / nodes))


def capacity(workers: int, writers: int) -> Capacity:
    """What the running cluster gives a run."""
    return Capacity(_decoders(), workers, writers)


def _joined(resource: str, wanted: float) -> float:
    """How much there is; the nodes of a cluster that has just been started get time to join."""
    import ray

    def there() -> float:
        return float(ray.cluster_resources().get(resource, 0))

    if len(ray.nodes()) == 1:
        return there()
    waiting = Retrying(
        retry=retry_if_result(lambda found: found < wanted),
        stop=stop_after_delay(JOINING),
        wait=wait_fixed(1),
        retry_error_callback=lambda state: there(),
    )
    return float(waiting(there))


def _decoders() -> int:
    there = int(_joined("CPU", 1))
    if not there:
        raise FtiError("the Ray cluster has no CPU to decode on; start a worker node that has some")
    return there


def cpus() -> int:
    """CPUs that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
