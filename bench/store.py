"""Filtered search in the embedded gallery against qdrant-client's local mode, side by side.

python bench/store.py                   100,000 vectors, some minutes
python bench/store.py --count 10000
python bench/store.py --features        what each feature of a query costs, embedded
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import click
import numpy as np
from qdrant_client import QdrantClient, models
from rich.console import Console
from rich.progress import track
from rich.table import Table

from fti_qdrant.filters.grammar import as_filter
from fti_qdrant.gallery import (
    EdgeGallery,
    FieldOrder,
    GalleryPoint,
    GallerySpec,
    VectorQuery,
    point_id,
)
from fti_qdrant.model.fingerprint import Fingerprint

BAR, AIM = 300, 600
BRANDS = 50
CHUNK = 1000
T = TypeVar("T")
FILTER = as_filter({"brand": "brand 7", "price": {"lt": 50}})
FEATURES: dict[str, dict[str, Any]] = {
    "plain": {},
    "filter": {"filter": FILTER},
    "offset 100": {"offset": 100},
    "cutoff 0.8": {"cutoff": 0.8},
    "diversity 0.5": {"diversity": 0.5},
    "diversity 0.5, cutoff 0.5": {"diversity": 0.5, "cutoff": 0.5},
    "group_by": {"group_by": "brand"},
    "group_by, group_size 3": {"group_by": "brand", "group_size": 3},
    "order_by, cutoff 0.8": {"order_by": FieldOrder("price"), "cutoff": 0.8},
    "one payload field": {"payload_fields": ("brand",)},
}
"""What a query may ask for beside its vector."""


@click.command()
@click.option("--count", type=click.IntRange(CHUNK), default=100_000, show_default=True)
@click.option("--dim", type=click.IntRange(2), default=512, show_default=True)
@click.option("--queries", type=click.IntRange(1), default=15, show_default=True)
@click.option("--features", is_flag=True, help="Each feature of a query against the plain one.")
def main(count: int, dim: int, queries: int, features: bool) -> None:
    """Print p50 of filtered and unfiltered queries of both stores, and the ratio."""
    rng = np.random.default_rng(0)
    asked = rng.standard_normal((queries, dim)).astype(np.float32)
    if features:
        compare_features(asked, count)
        return
    with tempfile.TemporaryDirectory() as folder:
        gallery, edge_fill = timed(fill_edge, Path(folder) / "edge", count, dim)
        client, local_fill = timed(fill_local, count, dim)
        times: dict[str, list[float]] = {}
        for vector in asked:
            for name, filter in (("filtered", FILTER), ("unfiltered", None)):
                ours, edge_time = timed(search_edge, gallery, vector, filter)
                theirs, local_time = timed(search_local, client, vector, filter)
                if ours != theirs:
                    raise SystemExit(f"the stores disagree on a {name} query: {ours} {theirs}")
                times.setdefault(f"edge {name}", []).append(edge_time)
                times.setdefault(f"local {name}", []).append(local_time)
        gallery.close()
        client.close()
    show(count, dim, times, edge_fill, local_fill)


def compare_features(asked: np.ndarray, count: int) -> None:
    """Prints p50 of each feature, its queries by turns with the others', and facets."""
    times: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory() as folder,
        fill_edge(Path(folder) / "edge", count, asked.shape[1]) as gallery,
    ):
        for vector in asked:
            for name, options in FEATURES.items():
                found, seconds = timed(gallery.search, VectorQuery(vector, **options))
                if not found:
                    raise SystemExit(f"{name}: no image was found")
                times.setdefault(name, []).append(seconds)
            _, seconds = timed(gallery.facets, "brand", FILTER)
            times.setdefault("facets, filtered", []).append(seconds)
    plain = statistics.median(times["plain"])
    table = Table("query", "p50", "against plain", title=f"embedded, {count:,} x {asked.shape[1]}")
    for name, seconds_of in times.items():
        median = statistics.median(seconds_of)
        table.add_row(name, f"{median * 1e3:.2f} ms", f"{median / plain:.2f}x")
    Console().print(table)


def rows(count: int, dim: int) -> Iterator[list[GalleryPoint]]:
    """The same points for both stores, a chunk at a time."""
    rng = np.random.default_rng(1)
    for start in range(0, count, CHUNK):
        vectors = rng.standard_normal((CHUNK, dim)).astype(np.float32)
        brands, prices = rng.integers(BRANDS, size=CHUNK), rng.uniform(0, 200, size=CHUNK)
        yield [
            GalleryPoint(
                point_id(f"{start + i}.jpg"),
                vectors[i],
                {"brand": f"brand {brands[i]}", "price": round(float(prices[i]), 2)},
            )
            for i in range(min(CHUNK, count - start))
        ]


def fill_edge(path: Path, count: int, dim: int) -> EdgeGallery:
    fingerprint = Fingerprint("random", "0", "none", "none", dim)
    spec = GallerySpec(fingerprint=fingerprint, indexes={"brand": "keyword", "price": "float"})
    gallery = EdgeGallery.create(path, spec)
    for points in track(rows(count, dim), "filling ours", total=-(-count // CHUNK)):
        gallery.upsert(points)
    gallery.flush()
    return gallery


def fill_local(count: int, dim: int) -> QdrantClient:
    client = QdrantClient(":memory:")
    vectors = models.VectorParams(size=dim, distance=models.Distance.COSINE)
    client.create_collection("images", vectors_config={"image": vectors})
    for points in track(rows(count, dim), "filling local mode", total=-(-count // CHUNK)):
        structs = [
            models.PointStruct(
                id=one.id, vector={"image": one.vector.tolist()}, payload=one.payload
            )
            for one in points
        ]
        client.upsert("images", structs)
    return client


def search_edge(
    gallery: EdgeGallery, vector: np.ndarray, filter: models.Filter | None
) -> list[str]:
    return [hit.id for hit in gallery.search(VectorQuery(vector, filter=filter))]


def search_local(
    client: QdrantClient, vector: np.ndarray, filter: models.Filter | None
) -> list[str]:
    answer = client.query_points(
        "images", vector.tolist(), using="image", query_filter=filter, limit=10
    )
    return [str(point.id) for point in answer.points]


def timed(work: Callable[..., T], *given: Any) -> tuple[T, float]:
    began = time.perf_counter()
    return work(*given), time.perf_counter() - began


def show(
    count: int, dim: int, times: dict[str, list[float]], edge_fill: float, local_fill: float
) -> None:
    median = {name: statistics.median(seconds) for name, seconds in times.items()}
    table = Table("work", "ours", "local mode", "ratio", "bar", "aim", title=f"{count:,} x {dim}")
    for name, bar, aim in (("filtered", BAR, AIM), ("unfiltered", None, None)):
        ours, theirs = median[f"edge {name}"], median[f"local {name}"]
        ratio = theirs / ours
        met = "" if bar is None else f"{bar}x {'met' if ratio >= bar else 'NOT met'}"
        cells = (f"{ours * 1e3:.2f} ms", f"{theirs * 1e3:.1f} ms", f"{ratio:.0f}x", met)
        table.add_row(f"{name} query, p50", *cells, f"{aim}x" if aim else "")
    fill = f"{local_fill / edge_fill:.0f}x"
    table.add_row("filling", f"{edge_fill:.1f} s", f"{local_fill:.1f} s", fill, "", "")
    Console().print(table)


if __name__ == "__main__":
    main()
