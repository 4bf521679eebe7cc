"""What is asked of a Ray cluster, and whether it has that: Ray itself waits in silence."""

from __future__ import annotations

import logging

from fti_ingest.engine.session import is_joined
from fti_qdrant.errors import FtiError

BACKLOG = 8
"""Batches of pixels, for each model, that may wait between the stages."""

logger = logging.getLogger(__name__)


def check_gpus(workers: int, gpus_per_worker: float) -> None:
    """Raises FtiError where a Ray of our own has too few; a cluster that is joined may grow."""
    wanted, available_gpus = workers * gpus_per_worker, available("GPU")
    if wanted > available_gpus:
        _lacking(
            f"workers={workers} with gpus_per_worker={gpus_per_worker:g} need {wanted:g} GPUs; "
            f"the cluster has {available_gpus:g}"
        )


def bound_backlog(row_bytes: int, workers: int, rows: int, decoded_rows: int) -> None:
    """Decoding runs ahead of the model; Ray alone would let it fill half of the object store.

    Args:
        row_bytes: of one decoded picture.
        rows: that a model takes at once.
        decoded_rows: that a decoder yields at once.

    Raises FtiError where a Ray of our own has no CPU to decode on.
    """
    from ray.data import DataContext, ExecutionResources

    decoders = int(available("CPU"))
    if not decoders:
        _lacking("the Ray cluster has no CPU to decode on")
    backlog = (BACKLOG * workers * rows + decoders * decoded_rows) * row_bytes
    options = DataContext.get_current().execution_options
    options.resource_limits = ExecutionResources.for_limits(object_store_memory=backlog)


def available(resource: str) -> float:
    """How much the cluster has of ``CPU`` or ``GPU``, whether in use or not."""
    import ray

    return float(ray.cluster_resources().get(resource, 0))


def _lacking(what: str) -> None:
    if not is_joined():
        raise FtiError(what)
    logger.warning("%s; waiting for nodes to join", what)
