"""How a service behaves: who may use it, and what one request may cost."""

from __future__ import annotations

from dataclasses import dataclass, field

from fti_qdrant.errors import FtiError

MAX_BODY = 32_000_000


@dataclass(frozen=True)
class ServeSettings:
    """The options of ``create_app``. The defaults suit a machine's own user.

    Attributes:
        api_keys: who sends one of these may use the API; with none, everybody may.
        hosts: names that the service goes by; with none, any. A page on the Internet whose name
            leads to this machine could otherwise read a service without keys (DNS rebinding).
        cors_origins: web pages of these origins may use the API, such as ``https://shop.example``.
        max_body: bytes of a request's body.
        max_seconds: seconds from a request's first byte to the answer's last.
        max_requests: requests that are worked on at a time; more are answered by 503.
        rate: requests of each key (without keys, of each address), such as ``600/minute``.
        rate_storage: where they are counted, as the package limits names it; several processes
            count together in ``async+redis://HOST``.
        max_thumbnails: bytes of thumbnails that are kept in memory.
        page: whether the page is served.
    """

    api_keys: tuple[str, ...] = field(default=(), repr=False)
    hosts: tuple[str, ...] = ()
    cors_origins: tuple[str, ...] = ()
    max_body: int = MAX_BODY
    max_seconds: float = 30.0
    max_requests: int = 256
    rate: str | None = None
    rate_storage: str = "async+memory://"
    max_thumbnails: int = 64_000_000
    page: bool = True

    def __post_init__(self) -> None:
        for name in ("max_body", "max_seconds", "max_requests"):
            if not getattr(self, name) > 0:
                raise FtiError(f"{name} must be more than 0, got {getattr(self, name)!r}")
        if not all(self.api_keys):
            raise FtiError("an API key is empty; give one, or leave it out")
        if not all(key.isascii() and key.isprintable() for key in self.api_keys):
            raise FtiError("an API key must be of printable ASCII characters, as headers are")
        for origin in self.cors_origins:
            scheme, _, host = origin.partition("://")
            if origin != "*" and (scheme not in ("http", "https") or not host or "/" in host):
                raise FtiError(f"{origin!r} is not an origin such as https://shop.example")
