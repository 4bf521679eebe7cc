"""The options of every command whose model runs in workers: which engine, how many, on what."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

engine_option = click.option(
    "--engine",
    type=click.Choice(["auto", "local", "ray"]),
    default="auto",
    show_default=True,
    help="local runs in this process; ray runs on several workers or a cluster, and needs "
    "fti-qdrant[ray]. auto takes ray for --workers above 1, or a Ray address.",
)
ray_address_option = click.option(
    "--ray-address",
    envvar="RAY_ADDRESS",
    help="Address of a running Ray cluster.  [env: RAY_ADDRESS; default: start Ray here]",
)

OPTIONS = (
    click.option(
        "--precision",
        type=click.Choice(["fp32", "bf16", "fp16"]),
        help="Numeric precision of the model.  [default: by device]",
    ),
    engine_option,
    click.option(
        "--workers",
        type=click.IntRange(1),
        default=1,
        show_default=True,
        help="Processes that each hold the model.",
    ),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(min=0),
        default=0,
        show_default=True,
        help="GPUs for each worker; may be a fraction.",
    ),
    ray_address_option,
)


def worker_options(command: F) -> F:
    """Adds the options; the command gets ``precision`` and one ``engine``, an ``EngineChoice``.

    Commands call its ``check`` before any work.
    """

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        engine: Any,
        workers: int,
        gpus_per_worker: float,
        ray_address: str | None,
        **options: Any,
    ) -> Any:
        from fti_ingest.engine.choose import EngineChoice

        address = ray_address if engine != "local" else None
        choice = EngineChoice(engine, workers, gpus_per_worker, address)
        return command(*args, engine=choice, **options)

    for option in reversed(OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]
