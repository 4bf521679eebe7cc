"""Who may use the API, and what browsers may do with its answers."""

from __future__ import annotations

import hashlib
import hmac
import logging
import time
from collections.abc import Sequence
from typing import Annotated
from urllib.parse import urlsplit

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer
from limits import RateLimitItem, parse
from limits.aio.storage import Storage
from limits.aio.strategies import FixedWindowRateLimiter
from limits.errors import ConfigurationError, StorageError
from limits.storage import storage_from_string
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fti_qdrant.errors import FtiError, Overloaded
from fti_qdrant.serve.problems import Refusal, problem
from fti_qdrant.serve.settings import ServeSettings

KEY_HEADER = "X-API-Key"

API_POLICY = "default-src 'none'; frame-ancestors 'none'; sandbox"
"""Content Security Policy of answers: nothing in them is a page."""

HEADERS = {
    "Content-Security-Policy": API_POLICY,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
"""On every answer, where it has not its own."""

logger = logging.getLogger(__name__)

SAFE_METHODS = ("GET", "HEAD", "OPTIONS")

by_header = APIKeyHeader(name=KEY_HEADER, auto_error=False, description="An API key.")
by_bearer = HTTPBearer(auto_error=False, description="An API key, as a bearer token.")


class Access:
    """Checks the key of a request, and how many requests its sender has made."""

    def __init__(self, settings: ServeSettings):
        """Raises FtiError where the rate or its storage is not one."""
        self._keys = [key.encode() for key in settings.api_keys]
        self._rate = rate_of(settings.rate)
        self._limiter = FixedWindowRateLimiter(_storage(settings.rate_storage))

    async def check_key(
        self,
        request: Request,
        key: Annotated[str | None, Depends(by_header)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(by_bearer)],
    ) -> None:
        """Raises Refusal (401) where keys are set and the request has none of them."""
        given = key or (bearer.credentials if bearer else "")
        if self._keys and not is_one_of(given, self._keys):
            raise Refusal(
                401,
                "Unauthorized",
                f"{'the API key is wrong' if given else 'no API key was sent'}; send one in the "
                f"header {KEY_HEADER}, or as Authorization: Bearer",
                {"WWW-Authenticate": "Bearer"},
            )
        request.state.sender = _digest(given) if self._keys else _address(request)

    async def count(self, request: Request, cost: int = 1) -> None:
        """Raises Refusal (429) where the sender has made too many requests.

        Args:
            cost: how many it counts for.
        """
        if self._rate is None:
            return
        sender = str(request.state.sender)
        try:
            if await self._limiter.hit(self._rate, sender, cost=cost):
                return
            stats = await self._limiter.get_window_stats(self._rate, sender)
        except StorageError as error:
            logger.warning("requests cannot be counted: %s", error)
            raise Overloaded("requests cannot be counted at the moment; try again later") from None
        raise _too_many(self._rate, stats.reset_time)


def is_one_of(given: str, keys: Sequence[bytes]) -> bool:
    """Whether a key is among those that are valid.

    The time does not tell how much of it is right, nor which of them it is.
    """
    sent = given.encode("utf-8", "surrogateescape")
    found = [hmac.compare_digest(sent, key) for key in keys]
    return any(found)


def rate_of(text: str | None) -> RateLimitItem | None:
    """A rate such as ``600/minute`` or ``10 per second``. Raises FtiError."""
    if text is None:
        return None
    try:
        rate = parse(text)
    except ValueError:
        raise FtiError(f"{text!r} is not a rate; write one such as 600/minute") from None
    if rate.amount < 1:
        raise FtiError(f"the rate {text!r} would let nothing pass; write at least 1")
    return rate


class BrowserRules:
    """Adds headers that keep browsers from doing more than they should; refuses foreign pages.

    A page of another site could send a form to a service without a key on the reader's own
    machine: what is not read-only is taken from pages of this service and of the CORS origins.
    """

    def __init__(self, app: ASGIApp, settings: ServeSettings):
        self.app = app
        self.origins = settings.cors_origins
        self.hosts = settings.hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
                if self.origins:
                    headers["Cross-Origin-Resource-Policy"] = "cross-origin"
            await send(message)

        refusal = self._refusal(scope["method"], Headers(scope=scope))
        answering = self.app if refusal is None else problem(refusal)
        await answering(scope, receive, with_headers)

    def _refusal(self, method: str, headers: Headers) -> Refusal | None:
        host = host_name(headers.get("host", ""))
        if self.hosts and host not in self.hosts:
            detail = f"this service is not called {host!r}; allow the name with --allow-host"
            return Refusal(403, "Foreign name", detail)
        if method in SAFE_METHODS or self._is_own(headers):
            return None
        detail = "a page of another site sent this; allow its origin with --cors-origin"
        return Refusal(403, "Foreign page", detail)

    def _is_own(self, headers: Headers) -> bool:
        origin = headers.get("origin")
        if origin is None or "*" in self.origins or origin in self.origins:
            return True
        return urlsplit(origin).netloc == headers.get("host")


def host_name(host: str) -> str:
    """A Host header without its port.

    Example:
        >>> host_name("Localhost:8000"), host_name("[::1]:8000"), host_name("shop.example")
        ('localhost', '::1', 'shop.example')
    """
    try:
        found = urlsplit(f"//{host}")
        return "" if "@" in host else found.hostname or ""
    except ValueError:
        return ""


def _storage(uri: str) -> Storage:
    try:
        found = storage_from_string(uri, wrap_exceptions=True)
    except (ConfigurationError, ImportError, ValueError) as error:
        raise FtiError(f"{uri!r} is not a storage of limits ({error})") from None
    if not isinstance(found, Storage):
        raise FtiError(f"{uri!r} is not an async storage; write async+{uri}")
    return found


def _digest(key: str) -> str:
    """What stands for a key where requests are counted, which may be on another machine."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def _address(request: Request) -> str:
    return request.client.host if request.client else "unknown"


def _too_many(rate: RateLimitItem, reset_time: float) -> Refusal:
    seconds = max(1, round(reset_time - time.time()))
    return Refusal(
        429,
        "Too many requests",
        f"more than {rate.amount} requests in {rate.get_expiry()} s; try again in {seconds} s",
        {"Retry-After": str(seconds)},
    )
