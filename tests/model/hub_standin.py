"""A stand-in of the Hugging Face hub: repositories in memory, served over HTTP on this machine."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

FILES = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)")
INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(?:/revision/(?P<revision>.+))?")


def commit_of(files: dict[str, bytes]) -> str:
    """A commit's name follows from what it holds."""
    digest = hashlib.sha1()
    for name, held in sorted(files.items()):
        digest.update(name.encode() + held)
    return digest.hexdigest()


@dataclass
class Hub:
    """What the hub holds, and what was asked of it.

    Attributes:
        repositories: name -> branch or tag -> file -> bytes.
        gated: repositories whose terms nobody has accepted.
        breaks: files of which only half is sent.
        asked: "METHOD PATH" of each request.
    """

    endpoint: str
    repositories: dict[str, dict[str, dict[str, bytes]]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    breaks: set[str] = field(default_factory=set)
    asked: list[str] = field(default_factory=list)

    def put(self, repository: str, files: dict[str, bytes], revision: str = "main") -> str:
        """Adds a revision; its commit."""
        self.repositories.setdefault(repository, {})[revision] = files
        return commit_of(files)

    def find(self, repository: str, revision: str) -> dict[str, bytes] | str:
        """The files, or the hub's name of the error."""
        if repository in self.gated:
            return "GatedRepo"
        if repository not in self.repositories:
            return "RepoNotFound"
        revisions = self.repositories[repository]
        by_commit = {commit_of(files): files for files in revisions.values()}
        return (revisions | by_commit).get(revision, "RevisionNotFound")


@contextmanager
def hub_standin() -> Iterator[Hub]:
    """Serves until the block ends."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            hub.asked.append(f"{self.command} {self.path}")
            path = self.path.partition("?")[0]
            if found := INFO.fullmatch(path):
                self.answer_info(found["repo"], found["revision"] or "main")
            elif found := FILES.fullmatch(path):
                self.answer_file(found["repo"], found["revision"], found["file"])
            else:
                self.refuse(404, "")

        def do_HEAD(self) -> None:
            self.do_GET()

        def answer_info(self, repository: str, revision: str) -> None:
            files = hub.find(repository, revision.replace("%2F", "/"))
            if isinstance(files, str):
                self.refuse(403 if files == "GatedRepo" else 404, files)
                return
            siblings = [{"rfilename": name} for name in files]
            info = {"id": repository, "sha": commit_of(files), "siblings": siblings}
            self.send(json.dumps(info).encode(), {"Content-Type": "application/json"})

        def answer_file(self, repository: str, revision: str, name: str) -> None:
            files = hub.find(repository, revision)
            if isinstance(files, str) or name not in files:
                self.refuse(404, files if isinstance(files, str) else "EntryNotFound")
                return
            held = files[name]
            etag = hashlib.sha256(held).hexdigest()
            facts = {"ETag": f'"{etag}"', "X-Repo-Commit": commit_of(files)}
            self.send(held, facts, half=name in hub.breaks)

        def refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def send(self, held: bytes, headers: dict[str, str], half: bool = False) -> None:
            self.send_response(200)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(held)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(held[: len(held) // 2] if half else held)
            self.close_connection = half

        def log_message(self, *_: Any) -> None:
            """Nothing on standard error."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    hub = Hub(f"http://127.0.0.1:{server.server_port}")
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
