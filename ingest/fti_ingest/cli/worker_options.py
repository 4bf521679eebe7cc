"""The options of every command whose model runs in Ray's workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])

OPTIONS = (
    click.option(
        "--precision", type=click.Choice(["fp32", "bf16", "fp16"]), help="Default: by device."
    ),
    click.option(
        "--workers", type=click.IntRange(1), default=1, show_default=True, help="Model processes."
    ),
    click.option(
        "--gpus-per-worker",
        type=click.FloatRange(min=0),
        default=0,
        show_default=True,
        help="GPU share of each.",
    ),
    click.option(
        "--ray-address",
        envvar="RAY_ADDRESS",
        help="A running Ray cluster; by default Ray is started here. [env: RAY_ADDRESS]",
    ),
)


def worker_options(command: F) -> F:
    """Adds precision, workers, gpus_per_worker and ray_address, in this order."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command
