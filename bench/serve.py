"""Throughput and latency of a service that batches, against one that does not.

    python -m bench.serve                       about 20 minutes
    python -m bench.serve --models mini --seconds 2 --rounds 1 --requests 500

Three services over galleries alike run in processes of their own and are loaded in turns, so that a
busy machine slows all of them: the app of ``fti-serve``, a handler of a few lines over
``AsyncComposedSearch``, and one that calls ``ComposedSearch.query`` plainly. Clients ask again as
soon as they are answered. ViT-B/32 has random weights. The clients run on the same cores.
"""

from __future__ import annotations

import asyncio
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path

if __name__ == "__main__":  # also as a file: `python bench/serve.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import httpx
import numpy as np
from rich.console import Console
from rich.table import Table

from bench.photographs import write_jpeg
from bench.verdict import verdict

CLIENTS = (1, 8, 64)
BAR, AIM = 2.0, 4.0
"""Throughput with 8 clients, over that with one."""

SERVICES = ("fti-serve", "batched", "plain")
INPUTS = ("uploads", "stored ids")
TEXT = "in red, with long sleeves"
ROOT = Path(__file__).resolve().parents[1]


@dataclass
class Service:
    """A running service."""

    name: str
    url: str
    pid: int

    async def ask(self, http: httpx.AsyncClient, text: str, id: str | None, body: bytes) -> None:
        """One query, by a stored id or a picture. Raises where it is not answered."""
        if self.name != "fti-serve":
            options = {"text": text} if id is None else {"text": text, "id": id}
            answer = await http.post(self.url, params=options, content=body)
        elif id is None:
            query = {"query": json.dumps({"text": text})}
            answer = await http.post(self.url, data=query, files={"photo": body})
        else:
            answer = await http.post(self.url, json={"references": [{"id": id}], "text": text})
        answer.raise_for_status()

    def memory(self) -> float:
        """MB in memory now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        [line] = [one for one in status.splitlines() if one.startswith("VmRSS:")]
        return int(line.split()[1]) / 1000


@dataclass
class Measured:
    """Latencies in seconds, and how long it took to collect them."""

    latencies: list[float] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def rate(self) -> float:
        return len(self.latencies) / self.seconds

    def percentile(self, share: float) -> float:
        """In milliseconds."""
        return 1000 * float(np.percentile(self.latencies, share))


Results = dict[tuple[str, str, str, int], Measured]
"""By model, input, service, and number of clients."""


@click.command()
@click.option("--models", default="mini,vit", show_default=True, help="mini, vit, or both.")
@click.option("--seconds", type=float, default=5, show_default=True, help="Of each load.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option(
    "--requests", type=int, default=10_000, show_default=True, help="For the measure of memory."
)
def main(models: str, seconds: float, rounds: int, requests: int) -> None:
    """Print queries per second and latencies at 1, 8 and 64 clients, and the growth of memory."""
    results: Results = {}
    memory: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for model in models.split(","):
            with ExitStack() as running:
                services = [
                    running.enter_context(serving(name, model, Path(folder))) for name in SERVICES
                ]
                for _ in range(rounds):
                    measure(model, services, seconds, results)
                if not memory:
                    memory = asyncio.run(growth(services[0], requests))
    show(results, rounds)
    show_memory(memory, requests)


@contextmanager
def serving(kind: str, model: str, folder: Path) -> Iterator[Service]:
    from bench.services import composer, make_gallery

    gallery = folder / f"{kind}-{model}"
    make_gallery(gallery, composer(model))
    command = [sys.executable, "-m", "bench.services", kind, model, str(gallery)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        port = process.stdout.readline().strip()
        if not port:
            raise SystemExit(f"the service {kind} over {model} did not start")
        try:
            yield Service(kind, f"http://127.0.0.1:{port}/search", process.pid)
        finally:
            process.terminate()


def measure(model: str, services: list[Service], seconds: float, results: Results) -> None:
    """One round; the first queries of a service are not counted."""
    bodies = pictures()
    for asked in INPUTS:
        for clients in CLIENTS:
            for service in services:
                key = (model, asked, service.name, clients)
                if key not in results:
                    asyncio.run(load(service, asked, 1, 0.5, bodies))
                made = asyncio.run(load(service, asked, clients, seconds, bodies))
                total = results.setdefault(key, Measured())
                total.latencies += made.latencies
                total.seconds += made.seconds


def pictures() -> list[bytes]:
    """JPEGs of 640 x 480, all different."""
    rng = np.random.default_rng(0)
    made = []
    for _ in range(16):
        data = io.BytesIO()
        write_jpeg(data, (640, 480), rng)
        made.append(data.getvalue())
    return made


async def load(
    service: Service, asked: str, clients: int, seconds: float, bodies: list[bytes]
) -> Measured:
    from bench.services import ids

    numbers, stored = count(), ids()
    made = Measured()
    until = time.perf_counter() + seconds

    async def client(http: httpx.AsyncClient) -> None:
        while (began := time.perf_counter()) < until:
            number = next(numbers)
            uploads = asked == "uploads"
            id = None if uploads else stored[number % len(stored)]
            body = bodies[number % len(bodies)] if uploads else b""
            await service.ask(http, f"{TEXT} {number % 97}", id, body)
            made.latencies.append(time.perf_counter() - began)

    began = time.perf_counter()
    limits = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(timeout=120, limits=limits) as http:
        await asyncio.gather(*(client(http) for _ in range(clients)))
    made.seconds = time.perf_counter() - began
    return made


async def growth(service: Service, requests: int) -> list[float]:
    """MB after each tenth of the requests, by 8 clients, half of them uploads."""
    from bench.services import ids

    bodies, stored = pictures(), ids()
    measured = []
    async with httpx.AsyncClient(timeout=120) as http:

        async def one(number: int) -> None:
            id = stored[number % len(stored)] if number % 2 else None
            body = b"" if id else bodies[number % len(bodies)]
            await service.ask(http, f"{TEXT} {number}", id, body)

        async def client(first: int, last: int) -> None:
            for number in range(first, last, 8):
                await one(number)

        for part in range(10):
            first, last = part * requests // 10, (part + 1) * requests // 10
            await asyncio.gather(*(client(first + offset, last) for offset in range(8)))
            measured.append(service.memory())
    return measured


def show(results: Results, rounds: int) -> None:
    title = f"Queries per second and latency in ms, {rounds} interleaved rounds"
    columns = ("model", "queries", "service", "clients", "queries/s", "p50", "p95", "p99")
    table = Table(*columns, "over 1 client", "over plain", title=title)
    for column in table.columns:
        column.no_wrap = True
    for column in table.columns[3:]:
        column.justify = "right"
    for (model, asked, service, clients), made in results.items():
        alone = results[model, asked, service, 1].rate
        plain = results[model, asked, "plain", clients].rate
        table.add_row(
            *(model, asked, service, str(clients), f"{made.rate:.1f}"),
            *(f"{made.percentile(share):.0f}" for share in (50, 95, 99)),
            f"{made.rate / alone:.2f}x",
            f"{made.rate / plain:.2f}x",
        )
    console = Console(highlight=False, width=120)
    console.print(table)
    for model, asked in dict.fromkeys((key[0], key[1]) for key in results):
        one, eight = (results[model, asked, SERVICES[0], clients].rate for clients in (1, 8))
        console.print(
            f"{SERVICES[0]}, {model}, {asked}: 8 clients {eight / one:.2f}x one client; "
            f"bar {BAR}x: {verdict(eight >= BAR * one)}, aim {AIM}x: {verdict(eight >= AIM * one)}"
        )


def show_memory(measured: list[float], requests: int) -> None:
    first, last = measured[0], statistics.mean(measured[-3:])
    Console(highlight=False).print(
        f"memory after {requests // 10:,} requests {first:.0f} MB, after {requests:,} {last:.0f} "
        f"MB: {last / first:.2f}x"
    )


if __name__ == "__main__":
    main()
