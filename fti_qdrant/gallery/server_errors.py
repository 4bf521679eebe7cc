"""qdrant-client's exceptions -> ours, and which of them are worth a retry."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import grpc
import httpx
from qdrant_client.common.client_exceptions import QdrantException, ResourceExhaustedResponse
from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse
from tenacity import (
    RetryCallState,
    Retrying,
    nap,
    retry_if_exception,
    stop_after_attempt,
    stop_after_delay,
)
from tenacity.wait import wait_exponential_jitter

from fti_qdrant.awaiting import awaited, is_awaiting
from fti_qdrant.errors import FtiError, GalleryNotFound, GalleryUnavailable, first_line

ATTEMPTS = 5
LONGEST_PAUSE = 60
"""Seconds; a server that asks for a longer pause counts as unavailable."""

BUSY = (408, 429, 500, 502, 503, 504)
PASSING = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
)
REFUSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
logger = logging.getLogger(__name__)
T = TypeVar("T")


@contextmanager
def translated(name: str) -> Iterator[None]:
    """Turns the client's errors into ours, of one line. (UnexpectedResponse cannot be pickled.)"""
    try:
        yield
    except FtiError:
        raise
    except ResponseHandlingException as error:
        if isinstance(error.source, ValueError):  # pydantic's, several lines long
            raise _not_qdrants(name) from error
        raise GalleryUnavailable(
            f"{name}: the server does not answer ({error.source}); is it running?"
        ) from None
    except UnexpectedResponse as error:
        raise _of_status(name, error) from None
    except ResourceExhaustedResponse as error:
        raise GalleryUnavailable(
            f"{name}: the server asks to slow down; try again in {error.retry_after_s} s"
        ) from None
    except QdrantException as error:  # a Retry-After that is a date, as proxies may send
        raise GalleryUnavailable(f"{name}: the server asks to slow down ({error})") from None
    except grpc.RpcError as error:
        raise _of_code(name, error) from None
    except httpx.HTTPError as error:
        raise GalleryUnavailable(f"{name}: the connection failed ({error})") from None
    except (
        json.JSONDecodeError,
        AssertionError,
    ) as error:  # the client asserts that there is a result
        raise _not_qdrants(name) from error
    except NotImplementedError as error:
        raise GalleryUnavailable(
            f"{name}: qdrant-client's local mode cannot do this ({first_line(error)}); use a "
            "Qdrant server"
        ) from None
    except RuntimeError as error:
        raise GalleryUnavailable(
            f"{name}: the client is closed or broken ({first_line(error)}); connect again"
        ) from None
    except ValueError as error:  # qdrant-client's local mode
        if "not found" in str(error):
            raise GalleryNotFound(f"{name}: {error}") from None
        raise GalleryUnavailable(f"{name}: {error}") from None


def retrying(call: Callable[..., T], patience: float | None = None) -> Callable[..., T]:
    """The same call, retried with growing pauses where the server is busy or does not answer.

    Args:
        patience: seconds until it gives up; None gives up after a few attempts.
    """
    policy = Retrying(
        retry=retry_if_exception(_is_passing),
        stop=stop_after_attempt(ATTEMPTS) if patience is None else stop_after_delay(patience),
        wait=pause,
        before_sleep=_warn,
        sleep=_sleep,
        reraise=True,
    )
    return policy.wraps(call)


def _sleep(seconds: float) -> None:
    """Lets an event loop go on, where there is one."""
    if is_awaiting():
        awaited(asyncio.sleep(seconds))
    else:
        nap.sleep(seconds)


def _warn(state: RetryCallState) -> None:
    """Logs why a request failed, and when it is sent again."""
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0.0
    if isinstance(error, grpc.RpcError):
        reason = str(error.details())
    else:
        reason = first_line(getattr(error, "source", None) or error or TimeoutError())
    logger.warning("the Qdrant server failed (%s); trying again in %.1f s", reason, seconds)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code in BUSY
    if isinstance(error, ResourceExhaustedResponse):
        return error.retry_after_s <= LONGEST_PAUSE
    if isinstance(error, grpc.RpcError):
        return error.code() in PASSING
    if isinstance(error, ResponseHandlingException):  # not Qdrant's answer: a retry will not help
        return not isinstance(error.source, ValueError)
    return isinstance(error, (QdrantException, httpx.HTTPError))


def pause(state: RetryCallState) -> float:
    """Seconds before the next attempt: what the server asks for, else growing."""
    error = state.outcome.exception() if state.outcome else None
    if isinstance(error, ResourceExhaustedResponse):
        return float(error.retry_after_s)
    return wait_exponential_jitter(initial=0.2, max=10)(state)


def _not_qdrants(name: str) -> GalleryUnavailable:
    return GalleryUnavailable(f"{name}: the answer is not one of Qdrant's; is the address right?")


def _of_code(name: str, error: grpc.RpcError) -> FtiError:
    """The same for gRPC, where a failed call is itself the error."""
    code, reason = error.code(), str(error.details())[:300]
    if code in REFUSED:
        return GalleryUnavailable(f"{name}: the server refused access; check the API key")
    if code == grpc.StatusCode.NOT_FOUND:
        return GalleryNotFound(f"{name} does not exist")
    return GalleryUnavailable(f"{name}: the server answered {code.name}: {reason}")


def _of_status(name: str, error: UnexpectedResponse) -> FtiError:
    if error.status_code in (401, 403):
        return GalleryUnavailable(
            f"{name}: the server refused access ({error.status_code}); check the API key"
        )
    if error.status_code == 404:
        return GalleryNotFound(f"{name} does not exist")
    reason = error.content.decode(errors="replace")[:300]
    return GalleryUnavailable(f"{name}: the server answered {error.status_code}: {reason}")
