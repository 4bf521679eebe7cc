"""Blocking work beside the event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from anyio import CapacityLimiter
from anyio.to_thread import run_sync

T = TypeVar("T")


async def in_thread(
    function: Callable[..., T], *args: Any, limiter: CapacityLimiter | None = None
) -> T:
    """Runs a function in a thread.

    A request that is cancelled waits for its end: threads that nobody waits for could become any
    number.

    Args:
        limiter: how many such functions run at a time; None takes turns with all other work.
    """
    return await run_sync(partial(function, *args), limiter=limiter)
