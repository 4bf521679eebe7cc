"""Images by URL: limited in size and time, and never from inside the caller's own network."""

from __future__ import annotations

import ipaddress
import socket
import ssl
import threading
from contextlib import AbstractContextManager, suppress
from functools import lru_cache
from typing import Any
from urllib.parse import urljoin, urlsplit

import httpx

from fti_qdrant.errors import BadImage
from fti_qdrant.images.limits import ImageLimits

MAX_REDIRECTS = 5
NAT64 = int(ipaddress.IPv6Address("64:ff9b::"))
GLOBAL_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that is given out for the public Internet; what is beside it, networks use for themselves."""

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def fetch(url: str, limits: ImageLimits, own: str = "") -> bytes:
    """Downloads an image.

    Args:
        own: ``host`` or ``host:port`` that the user named, which may be a private address.

    The host of each redirect is resolved once, checked, and connected to by that address, so that
    a name cannot resolve to another address between the check and the connection.

    Raises:
        BadImage: private, loopback, link-local or otherwise not public address; too large; too
            slow; no answer; too many redirects.
    """
    target = url
    # no proxy from the environment: it would connect on our behalf, unchecked
    options: dict[str, Any] = {"trust_env": False, "verify": _certificates()}
    with Deadline(limits.timeout) as deadline:
        try:
            with httpx.Client(timeout=limits.timeout, **options) as client:
                for _ in range(MAX_REDIRECTS + 1):
                    with _get(client, target, deadline, own) as response:
                        if response.has_redirect_location:
                            target = urljoin(target, response.headers["location"])
                            continue
                        if response.status_code != 200:
                            raise BadImage(f"{url!r}: the server answered {response.status_code}")
                        return _body(response, url, limits)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if deadline.over:
                raise BadImage(f"{url!r}: not complete after {limits.timeout:g} s") from error
            reason = str(error) or type(error).__name__
            raise BadImage(f"{url!r}: cannot be fetched ({reason})") from error
    raise BadImage(f"{url!r}: more than {MAX_REDIRECTS} redirects")


class Deadline:
    """Ends a download when its time is up, whatever the server does.

    httpx's own timeouts restart with every byte that arrives.
    """

    def __init__(self, seconds: float):
        self.over = False
        self._sockets: list[socket.socket] = []
        self._timer = threading.Timer(seconds, self._expire)
        self._timer.daemon = True

    def __enter__(self) -> Deadline:
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.cancel()
        self._timer.join()
        for one in self._sockets:
            one.close()

    def watch(self, event: str, info: dict[str, Any]) -> None:
        """httpcore's ``trace`` extension: remembers each connection."""
        if event == "connection.connect_tcp.complete":
            # a copy, because TLS takes over the socket
            self._sockets.append(info["return_value"].get_extra_info("socket").dup())
            if self.over:
                self._expire()

    def _expire(self) -> None:
        self.over = True
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)


def any_address(host: str, port: int) -> str:
    """The address to connect to. Raises BadImage if the host cannot be found."""
    return _addresses(host, port)[0]


def public_address(host: str, port: int) -> str:
    """The address to connect to. Raises BadImage unless all addresses of the host are public."""
    found = _addresses(host, port)
    for address in found:
        ip = _reached(ipaddress.ip_address(address.split("%")[0]))
        if not is_public(ip):
            raise BadImage(
                f"host {host!r} is {address}, which is not a public address; images are fetched "
                "from public servers only"
            )
    return found[0]  # the system lists the best route first


def is_public(ip: Address) -> bool:
    """Whether an address is one of the public Internet.

    Example:
        >>> [is_public(ipaddress.ip_address(one)) for one in ("8.8.8.8", "10.0.0.1", "fec0::1")]
        [True, False, False]
    """
    if not ip.is_global or ip.is_multicast:
        return False
    return isinstance(ip, ipaddress.IPv4Address) or ip in GLOBAL_UNICAST


def _addresses(host: str, port: int) -> list[str]:
    try:
        entries = socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)
    except (OSError, UnicodeError) as error:
        raise BadImage(f"host {host!r} cannot be found ({error})") from error
    return [str(entry[4][0]) for entry in entries]


def _reached(ip: Address) -> Address:
    """The IPv4 address that a mapped, 6to4, NAT64 or compatible IPv6 address stands for."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if int(ip) >> 32 in (0, NAT64 >> 32):
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _get(
    client: httpx.Client, url: str, deadline: Deadline, own: str
) -> AbstractContextManager[httpx.Response]:
    try:
        parts = urlsplit(url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
    except ValueError as error:
        raise BadImage(f"{url!r} is not a URL ({error})") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadImage(f"{url!r} is not an http(s) URL")
    find = any_address if parts.netloc == own else public_address
    pinned = httpx.URL(url).copy_with(host=find(parts.hostname, port))
    return client.stream(
        "GET",
        pinned,
        headers={"Host": parts.netloc.rsplit("@")[-1]},
        extensions={"sni_hostname": parts.hostname, "trace": deadline.watch},
    )


def _body(response: httpx.Response, url: str, limits: ImageLimits) -> bytes:
    chunks, size = [], 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > limits.max_bytes:
            raise BadImage(f"{url!r}: over the limit of {limits.max_bytes:,} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


@lru_cache(maxsize=1)
def _certificates() -> ssl.SSLContext:
    """Cached: creating it takes a fifth of a second."""
    return httpx.create_ssl_context(trust_env=False)
