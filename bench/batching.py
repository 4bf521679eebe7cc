"""Gathering queries in a replica of Ray Serve: by ``@serve.batch``, or by ``QueryBatches``.

    python -m bench.batching

The model is a wait of 20 ms a batch and 1 ms a query, so that nothing but the gathering differs.
Clients ask again as soon as they are answered.
"""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from statistics import median

if __name__ == "__main__":  # also as a file: `python bench/batching.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import ray
from ray import serve
from rich.console import Console
from rich.table import Table

from fti_qdrant.query_batches import BatchLimits, QueryBatches

BATCH_SECONDS, QUERY_SECONDS = 0.020, 0.001
MAX_BATCH = 32
WAITS = (0.0, 0.005, 0.02)
"""Seconds that a batch may wait for company."""

Latencies = list[float]


def model(queries: list[int]) -> list[int]:
    time.sleep(BATCH_SECONDS + QUERY_SECONDS * len(queries))
    return queries


@serve.deployment(max_ongoing_requests=1000)
class Gathering:
    """Both ways in one replica, measured inside it: the way to a replica is the same for both."""

    def __init__(self, wait: float):
        self.batches: QueryBatches[int, int] = QueryBatches(
            model, BatchLimits(MAX_BATCH, 1000, wait)
        )
        self.by_serve.set_batch_wait_timeout_s(wait)

    @serve.batch(max_batch_size=MAX_BATCH)
    async def by_serve(self, queries: list[int]) -> list[int]:
        return await asyncio.to_thread(model, queries)

    async def ours(self, query: int) -> int:
        return await asyncio.wrap_future(self.batches.submit(query))

    async def measure(self, name: str, clients: int, seconds: float) -> Latencies:
        ask, latencies = getattr(self, name), []
        until = time.perf_counter() + seconds

        async def client(number: int) -> None:
            while (began := time.perf_counter()) < until:
                assert await ask(number) == number
                latencies.append(time.perf_counter() - began)

        await asyncio.gather(*map(client, range(clients)))
        return latencies


@click.command()
@click.option("--seconds", type=float, default=3, show_default=True, help="Of each load.")
def main(seconds: float) -> None:
    """Print queries per second and the median latency at 1, 8 and 64 clients."""
    ray.init(log_to_driver=False, include_dashboard=False, num_cpus=2)
    table = Table("max wait", "clients", "by", "queries/s", "p50 in ms")
    for wait in WAITS:
        handle = serve.run(Gathering.bind(wait), name="gathering", route_prefix=None)
        for clients in (1, 8, 64):
            for name in ("by_serve", "ours"):
                found = handle.measure.remote(name, clients, seconds).result()
                shown = "@serve.batch" if name == "by_serve" else "QueryBatches"
                table.add_row(
                    *(f"{1000 * wait:g} ms", str(clients), shown),
                    *(f"{len(found) / seconds:.1f}", f"{1000 * median(found):.1f}"),
                )
    Console(highlight=False).print(table)
    serve.shutdown()
    ray.shutdown()


if __name__ == "__main__":
    main()
