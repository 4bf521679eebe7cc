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
from fti_qdrant.gallery.server_refusals import (
    Asked,
    IndexCommand,
    Refusal,
    refused,
    sentence_of,
)

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
STATUS_OF_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: 400,
    grpc.StatusCode.UNAUTHENTICATED: 401,
    grpc.StatusCode.PERMISSION_DENIED: 403,
    grpc.StatusCode.NOT_FOUND: 404,
    grpc.StatusCode.ALREADY_EXISTS: 409,
    grpc.StatusCode.RESOURCE_EXHAUSTED: 429,
}
"""The HTTP status that means the same."""

TOO_LARGE = "larger than max"
"""What gRPC says of a message that is too long, under the code of a server that is busy."""

logger = logging.getLogger(__name__)
T = TypeVar("T")


@contextmanager
def translated(
    name: str, asked: Asked = "read", index_command: IndexCommand | None = None
) -> Iterator[None]:
    """Turns the client's errors into ours, of one line. (UnexpectedResponse cannot be pickled.)

    Args:
        name: of what was asked, for the message.
        asked: what for: a query that the server refuses is a BadQuery or a BadFilter.
        index_command: makes the command that makes a payload index, for messages.
    """
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
        raise refused(name, asked, _refusal(error), index_command) from None
    except ResourceExhaustedResponse as error:
        raise GalleryUnavailable(
            f"{name}: the server asks to slow down; try again in {error.retry_after_s} s"
        ) from None
    except QdrantException as error:  # a Retry-After that is a date, as proxies may send
        raise GalleryUnavailable(f"{name}: the server asks to slow down ({error})") from None
    except grpc.RpcError as error:
        raise refused(name, asked, _refusal_of_code(error), index_command) from None
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
        if asked in ("search", "create"):
            raise refused(name, asked, Refusal(400, "", sentence_of(str(error)))) from None
        raise GalleryUnavailable(f"{name}: {first_line(error)}") from None


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


def exists_already(error: Exception) -> bool:
    """Whether creating something failed because it is there already."""
    if isinstance(error, UnexpectedResponse):
        refusal = _refusal(error)
    elif isinstance(error, grpc.RpcError):
        refusal = _refusal_of_code(error)
    else:
        refusal = Refusal(400, "", str(error))
    return refusal.status == 409 or (refusal.status == 400 and "already exists" in refusal.sentence)


def _warn(state: RetryCallState) -> None:
    """Logs why a request failed, and when it is sent again."""
    error = state.outcome.exception() if state.outcome else None
    seconds = state.next_action.sleep if state.next_action else 0.0
    if isinstance(error, grpc.RpcError):
        reason = str(error.details())
    elif isinstance(error, UnexpectedResponse):
        reason = _refusal(error).answer
    else:
        reason = first_line(getattr(error, "source", None) or error or TimeoutError())
    logger.warning("the Qdrant server failed (%s); trying again in %.1f s", reason, seconds)


def _is_passing(error: BaseException) -> bool:
    if isinstance(error, UnexpectedResponse):
        return error.status_code in BUSY
    if isinstance(error, ResourceExhaustedResponse):
        return error.retry_after_s <= LONGEST_PAUSE
    if isinstance(error, grpc.RpcError):
        return error.code() in PASSING and TOO_LARGE not in str(error.details())
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


def _refusal(error: UnexpectedResponse) -> Refusal:
    body = error.content.decode(errors="replace")
    return Refusal(error.status_code or 0, "", sentence_of(body) or error.reason_phrase)


def _refusal_of_code(error: grpc.RpcError) -> Refusal:
    """The same for gRPC, where a failed call is itself the error."""
    code, sentence = error.code(), sentence_of(str(error.details()))
    status = 413 if TOO_LARGE in sentence else STATUS_OF_CODE.get(code, 500)
    return Refusal(status, code.name, sentence)
