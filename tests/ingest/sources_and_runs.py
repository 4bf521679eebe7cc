"""Pictures good and bad, fti-ingest as a user runs it, and what its run leaves."""

from __future__ import annotations

import csv
import json
import os
import struct
import subprocess
import time
import uuid
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from fti_ingest.cli.main import main
from tests.commands import StartedCommand, start_command

MARK = "FTI_TEST_RUN"
"""An environment variable that Ray's processes inherit; its value tells whose they are."""


def picture(seed: int, size: tuple[int, int] = (48, 40)) -> Image.Image:
    patches = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize(size, Image.Resampling.BICUBIC)


def write_pictures(folder: Path, count: int, prefix: str = "picture") -> list[str]:
    """Small JPEGs; returns their names."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"{prefix}-{number:03d}.jpg" for number in range(count)]
    for number, name in enumerate(names):
        picture(number).save(folder / name, quality=90)
    return names


def write_odd_pictures(folder: Path) -> list[str]:
    """Pictures of unusual kinds, all good; returns their names."""
    frames = [picture(seed).quantize(16) for seed in (900, 901, 902)]
    frames[0].save(folder / "animated.gif", save_all=True, append_images=frames[1:])
    picture(903).convert("CMYK").save(folder / "cmyk.jpg")
    deep = np.linspace(0, 65535, 40 * 48).astype(np.uint16).reshape(40, 48)
    Image.fromarray(deep).save(folder / "deep.png")
    picture(904).quantize(8).save(folder / "palette.png", transparency=0)
    picture(905, (40_000, 1)).save(folder / "strip.png")
    return ["animated.gif", "cmyk.jpg", "deep.png", "palette.png", "strip.png"]


def write_bad_pictures(folder: Path) -> dict[str, str]:
    """Every kind of bad file -> a word of the reason that is to be given."""
    (folder / "empty.jpg").write_bytes(b"")
    picture(906, (200, 200)).save(folder / "whole.tmp", "JPEG")
    whole = (folder / "whole.tmp").read_bytes()
    (folder / "whole.tmp").unlink()
    (folder / "truncated.jpg").write_bytes(whole[: len(whole) // 2])
    (folder / "text.jpg").write_text("this is not a picture")
    (folder / "directory.png").mkdir()
    (folder / "bomb.png").write_bytes(bomb(30_000, 30_000))
    os.mkfifo(folder / "pipe.png")
    return {
        "empty.jpg": "0 bytes",
        "truncated.jpg": "truncated",
        "text.jpg": "not an image",
        "directory.png": "directory",
        "bomb.png": "over the limit",
        "pipe.png": "pipe",
        "missing.jpg": "no such file",
    }


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is huge."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        checksum = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + checksum

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress(b"\0" * 100_000)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        [chunk(b"IHDR", header), chunk(b"IDAT", rows), chunk(b"IEND", b"")]
    )


def write_csv(path: Path, rows: Iterable[Mapping[str, Any]]) -> Path:
    rows = list(rows)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


@dataclass(frozen=True)
class Run:
    """One run of fti-ingest.

    Attributes:
        mark: what its processes have in their environment; empty for a run in this process.
    """

    code: int
    out: str
    err: str
    mark: str

    @property
    def line(self) -> str:
        """The final line, without the rate, which differs from run to run."""
        return self.out.splitlines()[0].partition(";")[0] if self.out else ""

    @property
    def error(self) -> str:
        """The one line that a failure prints; asserts that it is one, beside bar and warnings."""
        passing = ("images ", "WARNING: ")
        lines = [line for line in self.err.splitlines() if not line.startswith(passing)]
        assert len(lines) == 1, self.err
        assert lines[0].startswith("Error: "), self.err
        return lines[0]


def with_model(arguments: tuple[object, ...]) -> list[str]:
    """The arguments, with the embedded model where none is named: a new gallery needs one."""
    texts = [str(one) for one in arguments]
    named = any(one.startswith("--model") for one in texts)
    return texts if named else [*texts, "--model", "mini"]


def start_ingest(*arguments: object, cwd: Path, **environment: str) -> StartedCommand:
    """Starts fti-ingest in a process of its own."""
    full = {**_clean(os.environ), MARK: uuid.uuid4().hex, **environment}
    return start_command("fti_ingest.cli", *with_model(arguments), cwd=cwd, environment=full)


def ingest_process(*arguments: object, cwd: Path, **environment: str) -> Run:
    """Runs fti-ingest in a process of its own."""
    mark = environment.setdefault(MARK, uuid.uuid4().hex)
    process = start_ingest(*arguments, cwd=cwd, **environment)
    try:
        out, err = process.communicate(timeout=300)
    except BaseException:
        process.kill()
        raise
    return Run(process.wait(), out, err, mark)


def ingest(*arguments: object, cwd: Path, **environment: str) -> Run:
    """Runs fti-ingest in this process, as it would run in ``cwd``."""
    before, folder = dict(os.environ), Path.cwd()
    os.environ.clear()
    os.environ.update({**_clean(before), **environment})
    os.chdir(cwd)
    try:
        done = CliRunner().invoke(main, with_model(arguments))
    finally:
        os.chdir(folder)
        os.environ.clear()
        os.environ.update(before)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return Run(done.exit_code, done.stdout, done.stderr, "")


def _clean(environment: Mapping[str, str]) -> dict[str, str]:
    return {k: v for k, v in environment.items() if k not in ("RAY_ADDRESS", "QDRANT_API_KEY")}


def marked_processes(mark: str) -> dict[int, str]:
    """Process ids and command lines of those that run with this mark."""
    found = {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                command = (entry / "cmdline").read_bytes()
                if command:  # a zombie has none
                    text = command.replace(b"\0", b" ").decode(errors="replace")
                    found[int(entry.name)] = text
        except OSError:
            continue
    return found


def wait_until_gone(mark: str, but: tuple[str, ...] = (), seconds: float = 60) -> list[str]:
    """What is left of a run's processes, but those of these names, after waiting for them."""
    deadline = time.monotonic() + seconds
    while True:
        left = [one for one in marked_processes(mark).values() if not one.startswith(but or "\0")]
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.2)


def read_rejects(path: Path) -> dict[str, str]:
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    assert all(set(row) == {"uri", "reason"} for row in rows)
    assert len({row["uri"] for row in rows}) == len(rows)
    return {row["uri"]: row["reason"] for row in rows}


@contextmanager
def small_disk(path: Path, megabytes: int) -> Iterator[None]:
    path.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(path)],
        capture_output=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip("only root may mount a small disk")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
