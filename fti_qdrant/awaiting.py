"""One code for callers that block and callers that await: plain functions run on an event loop.

The steps of a query are plain functions. ``run_awaiting`` runs them in a greenlet of the event
loop's own thread; where they need something that takes time, they call ``awaited``, which lets the
loop go on meanwhile. It is the way in which SQLAlchemy serves asyncio: no thread is held while
waiting.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, ParamSpec, TypeVar

from greenlet import getcurrent, greenlet

from fti_qdrant.errors import FtiError

P = ParamSpec("P")
T = TypeVar("T")


class _Running(greenlet):
    """Marks the greenlets that ``awaited`` may leave, and gives them their caller's context."""

    def __init__(self, function: Callable[..., Any]):
        super().__init__(function)
        self.gr_context = getcurrent().gr_context


async def run_awaiting(function: Callable[P, T], *args: P.args, **options: P.kwargs) -> T:
    """Calls a function that uses ``awaited``. A cancelled await raises inside the function.

    Example:
        >>> import asyncio
        >>> def answer() -> int:
        ...     return awaited(asyncio.sleep(0, result=42))
        >>> asyncio.run(run_awaiting(answer))
        42
    """
    running = _Running(function)
    step = running.switch(*args, **options)
    while not running.dead:
        try:
            value = await step
        except BaseException as error:
            step = running.throw(error)
        else:
            step = running.switch(value)
    return step


def awaited(awaitable: Awaitable[T]) -> T:
    """The result of an awaitable, for a function that ``run_awaiting`` calls.

    Raises FtiError anywhere else, where nothing could await it.
    """
    parent = getcurrent().parent
    if not is_awaiting() or parent is None:
        close = getattr(awaitable, "close", None)
        if close is not None:
            close()  # a coroutine that nobody awaits would warn
        raise FtiError(
            "this gallery belongs to an AsyncComposedSearch; await the search's methods, or those "
            "of its gallery"
        )
    return parent.switch(awaitable)


def is_awaiting() -> bool:
    """Whether ``run_awaiting`` runs the caller."""
    return isinstance(getcurrent(), _Running)
