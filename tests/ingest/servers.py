"""Servers to ingest into: the stand-in, or a real one where QDRANT_URL names it; and a bad road."""

from __future__ import annotations

import os
import random
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from qdrant_client import QdrantClient

from fti_qdrant.gallery import ServerGallery, connect

STANDIN = Path(__file__).parents[1] / "qdrant_standin.py"
REAL = os.environ.get("QDRANT_URL")
KEY = os.environ.get("QDRANT_API_KEY") if REAL else "the-key"

only_standin = pytest.mark.skipif(bool(REAL), reason="a real server does not fail to order")


@dataclass(frozen=True)
class Server:
    url: str
    collection: str
    api_key: str | None

    @property
    def arguments(self) -> list[str]:
        """Of fti-ingest; the key goes through the environment."""
        return ["--url", self.url, "--collection", self.collection]

    @property
    def environment(self) -> dict[str, str]:
        return {"QDRANT_API_KEY": self.api_key} if self.api_key else {}

    def open(self) -> ServerGallery:
        return ServerGallery.open(connect(self.url, self.api_key), self.collection)


Start = Callable[..., Server]


@contextmanager
def servers(data: Path) -> Iterator[Start]:
    """Starts a stand-in on a folder, or names a fresh collection on the real server.

    Where it starts again, what was stored before is there.
    """
    collection = f"fti-test-{uuid.uuid4().hex[:8]}"
    processes: list[subprocess.Popen[str]] = []

    def start(*options: str) -> Server:
        if REAL:
            return Server(REAL, collection, KEY)
        command = [sys.executable, str(STANDIN), "--data", str(data), *options]
        processes.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        stdout = processes[-1].stdout
        assert stdout is not None
        key = KEY if "--api-key" in options else None
        return Server(stdout.readline().strip(), collection, key)

    try:
        yield start
    finally:
        for process in processes:
            process.kill()
            process.communicate()
        if REAL:
            drop_collections(connect(REAL, KEY), collection)


def drop_collections(client: QdrantClient, prefix: str) -> None:
    for one in client.get_collections().collections:
        if one.name.startswith(prefix):
            client.delete_collection(one.name)


class BadRoad:
    """A proxy before a server that drops connections, delays them, and cuts answers short.

    Args:
        fair: connections that pass first; after them, of four one passes unharmed.
    """

    def __init__(self, url: str, fair: int):
        parts = urlsplit(url)
        self.target = (str(parts.hostname), int(parts.port or 80))
        self.fair = fair
        self.harmed = {"drop": 0, "delay": 0, "cut": 0}
        self._chance = random.Random(0)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = self._listener.accept()
                threading.Thread(
                    target=self._pass, args=(client, self._fate()), daemon=True
                ).start()

    def _fate(self) -> str:
        if self.fair > 0:
            self.fair -= 1
            return "pass"
        fate = self._chance.choice(["pass", "drop", "delay", "cut"])
        if fate != "pass":
            self.harmed[fate] += 1
        return fate

    def _pass(self, client: socket.socket, fate: str) -> None:
        with client, suppress(OSError):
            if fate == "drop":
                return
            if fate == "delay":
                time.sleep(1)
            with socket.create_connection(self.target) as server:
                there = threading.Thread(target=pump, args=(client, server, None), daemon=True)
                there.start()
                pump(server, client, 60 if fate == "cut" else None)


def pump(source: socket.socket, target: socket.socket, most: int | None) -> None:
    """Bytes from one to the other until one ends, or so many have passed."""
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data if most is None else data[:most])
            if most is not None:
                break
    for one in (source, target):
        with suppress(OSError):
            one.shutdown(socket.SHUT_RDWR)
