"""``fti-serve``: one line and exit code 2 where it cannot start, and an end when it is asked."""

from __future__ import annotations

import re
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from fti_qdrant import EdgeGallery
from fti_qdrant.cli.serve import main
from fti_qdrant.serve import server
from fti_qdrant.serve.settings import ServeSettings
from tests.commands import start_command


def serve(*arguments: object) -> Result:
    return CliRunner().invoke(main, [str(one) for one in arguments])


def refused(done: Result, words: str) -> None:
    assert done.exit_code == 2, done.output
    assert words in done.output, done.output
    assert "Traceback" not in done.output
    if "Usage:" not in done.output:
        assert len(done.stderr.splitlines()) == 1, done.stderr


@pytest.fixture
def taken() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening.getsockname()[1]


def test_a_port_that_is_in_use(place: dict[str, Any], taken: int):
    done = serve("--gallery", place["folder"] / "gallery", "--port", taken)
    refused(done, f"cannot listen at 127.0.0.1:{taken} (Address already in use)")


BAD: dict[str, tuple[list[str], str]] = {
    "no gallery": ([], "--gallery DIR"),
    "no such gallery": (["--gallery", "nowhere"], "no gallery at 'nowhere'"),
    "two galleries": (["--gallery", "{gallery}", "--url", "http://x"], "--gallery DIR"),
    "another model": (["--gallery", "{gallery}", "--model", "no-such-model"], "no-such-model"),
    "a damaged gallery": (["--gallery", "{folder}/damaged"], "does not describe"),
    "another model's gallery": (["--gallery", "{folder}/other"], "was made with"),
    "a host": (["--gallery", "{gallery}", "--host", "no.such.host.invalid"], "cannot listen at"),
    "a port": (["--gallery", "{gallery}", "--port", "70000"], "70000"),
    "a rate": (["--gallery", "{gallery}", "--rate", "fast"], "'fast' is not a rate"),
    "a storage": (["--gallery", "{gallery}", "--rate-storage", "x://"], "is not a storage"),
    "an origin": (["--gallery", "{gallery}", "--cors-origin", "shop"], "is not an origin"),
    "an empty key": (["--gallery", "{gallery}", "--api-key", ""], "API key is empty"),
    "no body": (["--gallery", "{gallery}", "--max-body", "0"], "--max-body"),
    "no folder": (
        ["--url", "http://127.0.0.1:9", "--collection", "x", "--allow-writes"],
        "--uploads",
    ),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_served_is_one_line(place: dict[str, Any], name: str):
    folder = place["folder"]
    arguments, words = BAD[name]
    filled = [one.format(folder=folder, gallery=folder / "gallery") for one in arguments]
    done = serve(*filled, *([] if "--port" in filled else ["--port", "0"]))
    refused(done, words)


def test_a_gallery_that_is_open_elsewhere(place: dict[str, Any]):
    with EdgeGallery.open(place["folder"] / "locked"):
        done = serve("--gallery", place["folder"] / "locked", "--port", 0)
    refused(done, "open")


def test_a_server_that_does_not_answer(place: dict[str, Any]):
    url = f"http://127.0.0.1:{place['port']}"
    done = serve("--url", url, "--collection", "shop", "--port", 0)
    refused(done, "does not answer")


def test_it_serves_until_it_is_stopped(place: dict[str, Any]):
    """The process of a user: it says where it is, answers, and gives the gallery back."""
    gallery = place["folder"] / "gallery"
    url = f"http://127.0.0.1:{place['port']}/"
    options = ("--gallery", str(gallery), "--port", str(place["port"]))
    process = start_command("fti_qdrant.cli.serve", *options, cwd=place["folder"])
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                assert httpx.get(f"{url}ready", timeout=30).status_code == 200
                break
            except httpx.ConnectError:
                assert time.monotonic() < deadline
                time.sleep(0.1)
        hits = httpx.post(f"{url}search", json={"text": "red", "limit": 2}, timeout=30).json()
        assert len(hits["hits"]) == 2
        assert httpx.get(url).headers["content-type"].startswith("text/html")
        assert httpx.get(url, headers={"Host": "rebound.example"}).status_code == 403
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(30)
        assert process.wait() == 0
        assert errors.splitlines()[0] == f"open {url} (Ctrl-C stops it)"
        assert "Traceback" not in errors
    finally:
        process.kill()
    EdgeGallery.open(gallery).close()  # its lock is free


def test_a_service_without_keys_that_others_reach_is_warned_of(
    place: dict[str, Any], monkeypatch: pytest.MonkeyPatch
):
    served: list[ServeSettings] = []
    monkeypatch.setattr(server, "run", lambda app, listening, settings: served.append(settings))
    lines = []
    for options in ([], ["--host", "0.0.0.0"], ["--allow-writes"], ["--api-key", "k"]):
        done = serve("--gallery", place["folder"] / "gallery", "--port", 0, *options)
        assert done.exit_code == 0, done.output
        *warnings, last = done.stderr.splitlines()
        assert last.startswith("open http://")
        lines.append(re.sub(r"port \d+", "port N", "".join(warnings)))
    reached = "warning: anybody who reaches port N of this machine can search"
    how = "; set --api-key"
    assert lines == ["", reached + how, f"{reached} and write{how}", ""]
    names = [settings.hosts for settings in served]
    own = ("localhost", "127.0.0.1", "::1")
    assert names == [own, (), own, ()]  # by other names nobody is expected there


def test_several_keys_come_from_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FTI_SERVE_API_KEY", "one two")
    context = main.make_context("fti-serve", ["--gallery", "x"])
    assert context.params["keys"] == ("one", "two")
    assert Path("x") == context.params["gallery"]
