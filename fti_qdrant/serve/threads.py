"""Blocking work beside the event loop."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from anyio.to_thread import run_sync

T = TypeVar("T")


async def in_thread(function: Callable[..., T], *args: Any, **options: Any) -> T:
    """Runs a function in a thread. A request that is cancelled does not wait for its end."""
    return await run_sync(partial(function, *args, **options), abandon_on_cancel=True)
