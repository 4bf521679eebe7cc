"""Images by URL: bounded in size and time, and never from inside the caller's own network."""

from __future__ import annotations

import ipaddress
import socket
import time
from urllib.parse import urljoin, urlsplit

import httpx

from fti_qdrant.errors import BadImage
from fti_qdrant.images.source import ImageLimits

REDIRECTS = 5


def fetch(url: str, limits: ImageLimits) -> bytes:
    """Downloads an image.

    Each hop's host is resolved once, checked, and connected to by that very address, so that a
    name cannot point elsewhere between the check and the connection.

    Raises:
        BadImage: private, loopback, link-local or otherwise not public address; too large; too
            slow; no answer; too many redirects.
    """
    deadline = time.monotonic() + limits.timeout
    target = url
    try:
        # no proxy from the environment: it would connect on our behalf, unchecked
        with httpx.Client(timeout=limits.timeout, trust_env=False) as client:
            for _ in range(REDIRECTS + 1):
                with _get(client, target) as response:
                    if response.is_redirect:
                        target = urljoin(target, response.headers["location"])
                        continue
                    if response.status_code != 200:
                        raise BadImage(f"{url!r}: the server answered {response.status_code}")
                    return _body(response, url, limits, deadline)
    except httpx.HTTPError as error:
        raise BadImage(f"{url!r}: cannot be fetched ({error or type(error).__name__})") from error
    raise BadImage(f"{url!r}: more than {REDIRECTS} redirects")


def public_address(host: str, port: int) -> str:
    """The address to connect to. Raises BadImage unless all addresses of the host are public."""
    try:
        found = {
            str(entry[4][0]) for entry in socket.getaddrinfo(host, port, proto=socket.IPPROTO_TCP)
        }
    except (OSError, UnicodeError) as error:
        raise BadImage(f"host {host!r} cannot be found ({error})") from error
    for address in found:
        ip = ipaddress.ip_address(address.split("%")[0])
        inner = getattr(ip, "ipv4_mapped", None) or ip
        if not inner.is_global or inner.is_multicast:
            raise BadImage(
                f"host {host!r} is {address}, which is not a public address; images are fetched "
                "from public servers only"
            )
    return sorted(found)[0]


def _get(client: httpx.Client, url: str):  # type: ignore[no-untyped-def]
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise BadImage(f"{url!r} is not an http(s) URL")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = public_address(parts.hostname, port)
    pinned = httpx.URL(url).copy_with(host=address)
    return client.stream(
        "GET",
        pinned,
        headers={"Host": parts.netloc.rsplit("@")[-1]},
        extensions={"sni_hostname": parts.hostname},
    )


def _body(response: httpx.Response, url: str, limits: ImageLimits, deadline: float) -> bytes:
    chunks, size = [], 0
    for chunk in response.iter_bytes():
        size += len(chunk)
        if size > limits.max_bytes:
            raise BadImage(f"{url!r}: over the limit of {limits.max_bytes:,} bytes")
        if time.monotonic() > deadline:
            raise BadImage(f"{url!r}: not complete after {limits.timeout:g} s")
        chunks.append(chunk)
    return b"".join(chunks)
