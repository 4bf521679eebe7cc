"""Images by URL: what is refused, and what a server can do. Loopback only.

Names are resolved by a table of our own. To reach the server at 127.0.0.1 at all, the check of
addresses is let through for one name.
"""

from __future__ import annotations

import gzip
import io
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from PIL import Image

from fti_qdrant.errors import BadImage
from fti_qdrant.images import ImageLimits, open_image, url

HOST = "pictures.test"
BUFFER = io.BytesIO()
Image.new("RGB", (6, 4), (10, 20, 30)).save(BUFFER, "PNG")
PNG = BUFFER.getvalue()


class Handler(BaseHTTPRequestHandler):
    """Answers by path."""

    seen: list[tuple[str, str | None]]

    def do_GET(self) -> None:
        self.seen.append((self.path, self.headers["Host"]))
        name, _, argument = self.path[1:].partition("?")
        try:
            getattr(self, f"answer_{name}")(argument)
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def answer_picture(self, _: str) -> None:
        self.send(PNG, Content_Type="image/png")

    def answer_text(self, _: str) -> None:
        self.send(b"<html>no picture</html>", Content_Type="image/png")

    def answer_empty(self, _: str) -> None:
        self.send(b"")

    def answer_status(self, code: str) -> None:
        self.send(b"", int(code))

    def answer_redirect(self, target: str) -> None:
        self.send(b"", 302, Location=target)

    def answer_loop(self, _: str) -> None:
        self.send(b"", 302, Location="/loop")

    def answer_large(self, size: str) -> None:
        self.send(bytes(int(size)))

    def answer_bomb(self, size: str) -> None:
        self.send(gzip.compress(bytes(int(size))), Content_Encoding="gzip")

    def answer_endless(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        while True:
            self.wfile.write(bytes(100_000))

    def answer_short(self, _: str) -> None:
        self.send(PNG, Content_Length=str(len(PNG) + 100))
        self.close_connection = True

    def answer_silent(self, _: str) -> None:
        time.sleep(8)

    def answer_slow_body(self, _: str) -> None:
        self.send_response(200)
        self.end_headers()
        for _second in range(80):
            self.wfile.write(b"x")
            time.sleep(0.1)

    def answer_slow_headers(self, _: str) -> None:
        self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        for _second in range(80):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.1)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    Handler.seen = []
    running = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    running.daemon_threads = True
    running.block_on_close = False
    thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield running
    running.shutdown()
    running.server_close()
    thread.join()


@pytest.fixture
def base(server: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch) -> str:
    """Address of the server under a name that only the check of addresses knows."""
    checked = url.public_address

    def lets_our_server_through(host: str, port: int) -> str:
        return "127.0.0.1" if host == HOST else checked(host, port)

    monkeypatch.setattr(url, "public_address", lets_our_server_through)
    return f"http://{HOST}:{server.server_port}"


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    entries = [
        (socket.AF_INET6 if ":" in one else socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 80))
        for one in addresses
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: entries)


def get(target: str, **limits: Any) -> Image.Image:
    return open_image(target, allow_urls=True, limits=ImageLimits(**limits)).image


@pytest.mark.parametrize("target", ["http://example.org/a.jpg", "HTTPS://example.org/a.jpg"])
def test_off_unless_allowed(target: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", None)
    with pytest.raises(BadImage, match="allow_urls=True"):
        open_image(target)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "127.9.9.9", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1"),
        *("169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "240.0.0.1"),
        *("224.0.0.1", "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1"),
        *("ff02::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::127.0.0.1"),
        *("64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2002:c0a8:101::1"),
    ],
)
def test_addresses_that_are_not_public(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, address)
    with pytest.raises(BadImage, match=r"'inside\.test' is .* not a public address"):
        get("http://inside.test/a.jpg")


def test_one_private_address_among_public_ones_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "93.184.216.34", "10.0.0.1")
    with pytest.raises(BadImage, match=r"10\.0\.0\.1, which is not a public"):
        get("http://mixed.test/a.jpg")


def test_public_addresses_pass_in_the_systems_order(monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822")
    assert url.public_address("public.test", 80) == "93.184.216.34"
    resolve_to(monkeypatch, "2606:2800:220:1::1", "93.184.216.34")
    assert url.public_address("public.test", 443) == "2606:2800:220:1::1"


@pytest.mark.parametrize(
    "literal", ["127.0.0.1", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:7f00:1]"]
)
def test_spellings_of_loopback(literal: str, server: ThreadingHTTPServer) -> None:
    with pytest.raises(BadImage, match="not a public address"):
        get(f"http://{literal}:{server.server_port}/picture")
    assert Handler.seen == []


@pytest.mark.parametrize(
    "target", ["http://", "http:///a.jpg", "http://[::1/a.jpg", "http://a:99999/", "https://a:b/"]
)
def test_malformed_urls(target: str) -> None:
    with pytest.raises(BadImage, match="http"):
        get(target)


def test_unknown_host(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    with pytest.raises(BadImage, match=r"'missing\.test' cannot be found"):
        get("http://missing.test/a.jpg")


def test_picture_comes_from_the_very_address_that_was_checked(base: str) -> None:
    loaded = open_image(f"{base}/picture", allow_urls=True)
    assert loaded.image.getpixel((1, 1)) == (10, 20, 30)
    assert loaded.uri == f"{base}/picture"
    assert Handler.seen == [("/picture", base.removeprefix("http://"))]


def test_a_proxy_of_the_environment_is_not_used(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:9")
    assert get(f"{base}/picture").size == (6, 4)


def test_redirects_are_followed_and_checked(base: str) -> None:
    assert get(f"{base}/redirect?/picture").size == (6, 4)
    assert get(f"{base}/redirect?{base}/redirect?/picture").size == (6, 4)
    own = base.replace(HOST, "127.0.0.1")
    Handler.seen.clear()
    for inside in (f"{own}/picture", "http://169.254.169.254/latest", "http://[::1]/"):
        with pytest.raises(BadImage, match="not a public address"):
            get(f"{base}/redirect?{inside}")
    assert [path for path, _ in Handler.seen if path == "/picture"] == []


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://a/b.jpg", "gopher://a/b"])
def test_redirects_to_other_schemes(base: str, target: str) -> None:
    with pytest.raises(BadImage, match=r"not an http\(s\) URL"):
        get(f"{base}/redirect?{target}")


def test_redirects_without_end(base: str) -> None:
    with pytest.raises(BadImage, match="more than 5 redirects"):
        get(f"{base}/loop")
    assert len(Handler.seen) == 6


@pytest.mark.parametrize("code", [401, 404, 500, 204, 302])
def test_other_answers(base: str, code: int) -> None:
    with pytest.raises(BadImage, match=f"answered {code}"):
        get(f"{base}/status?{code}")


@pytest.mark.parametrize(
    ("path", "reason"),
    [("text", "not an image"), ("empty", "0 bytes"), ("short", "cannot be fetched")],
)
def test_answers_that_are_no_pictures(base: str, path: str, reason: str) -> None:
    with pytest.raises(BadImage, match=reason) as caught:
        get(f"{base}/{path}")
    assert f"{base}/{path}" in str(caught.value)


@pytest.mark.parametrize("path", ["large?200000", "bomb?20000000", "endless"])
def test_too_large(base: str, path: str) -> None:
    with pytest.raises(BadImage, match="over the limit of 100,000 bytes"):
        get(f"{base}/{path}", max_bytes=100_000)


@pytest.mark.parametrize("path", ["silent", "slow_body", "slow_headers"])
def test_too_slow(base: str, path: str) -> None:
    began = time.monotonic()
    with pytest.raises(BadImage, match=path):
        get(f"{base}/{path}", timeout=0.5)
    assert time.monotonic() - began < 6


def test_nobody_listens(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, not listening: connections are refused
        with pytest.raises(BadImage, match="cannot be fetched"):
            get(f"http://{HOST}:{taken.getsockname()[1]}/a.jpg")
