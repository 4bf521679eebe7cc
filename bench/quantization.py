"""Recall of quantized vectors by oversampling, measured on Qdrant's engine.

    python bench/quantization.py [--count 20000] [--dim 512] [--cosine 0.78] [--queries 100]

The vectors are unevenly spread, as those of a CLIP: two random ones have a mean cosine of
``--cosine`` (0.78 for ViT-B/32 on photographs). Each kind of quantization is asked for the 10
nearest of vectors that are in the store, with results rescored by the full vectors, and compared
with exact answers. The engine is the one that is embedded here and runs in the server.
"""

from __future__ import annotations

import sys
import tempfile
import time
import uuid
from pathlib import Path

if __name__ == "__main__":  # also as a file: `python bench/quantization.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import numpy as np
import qdrant_edge as edge
from rich.console import Console
from rich.table import Table

BATCH = 500
NEIGHBORS = 10
FACTORS = (2, 4, 8, 16, 32)
LEAST_INDEXED = 12_000_000
"""Bytes of vectors; below some 10 MB the engine builds neither index nor quantized vectors."""

KINDS: dict[str, edge.QuantizationConfigType | None] = {
    "none": None,
    "scalar": edge.ScalarQuantizationConfig(type=edge.ScalarType.Int8, always_ram=True),
    "turbo4": edge.TurboQuantQuantizationConfig(always_ram=True, bits=edge.TurboQuantBitSize.Bits4),
    "turbo2": edge.TurboQuantQuantizationConfig(always_ram=True, bits=edge.TurboQuantBitSize.Bits2),
    "turbo1": edge.TurboQuantQuantizationConfig(always_ram=True, bits=edge.TurboQuantBitSize.Bits1),
    "binary": edge.BinaryQuantizationConfig(
        always_ram=True, encoding=edge.BinaryQuantizationEncoding.TwoBits
    ),
    "binary, one bit": edge.BinaryQuantizationConfig(always_ram=True),
}
"""As ``--quantization`` makes them; binary had one bit in earlier versions."""


def uneven_vectors(count: int, dim: int, cosine: float, seed: int = 0) -> np.ndarray:
    """Unit vectors ``[count, dim]`` in clusters around a common direction.

    Two random ones have the mean cosine ``cosine``: a share ``sqrt(cosine)`` of each is common.
    """
    rng = np.random.default_rng(seed)
    common = rng.normal(size=dim)
    centers = rng.normal(size=(max(count // 100, 1), dim))
    own = 0.7 * centers[rng.integers(len(centers), size=count)] + rng.normal(size=(count, dim))
    own /= np.linalg.norm(own, axis=1, keepdims=True)
    common /= np.linalg.norm(common)
    found = np.sqrt(cosine) * common + np.sqrt(1 - cosine) * own
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def filled(path: Path, vectors: np.ndarray, kind: str) -> edge.EdgeShard:
    path.mkdir()
    params = edge.EdgeVectorParams(
        size=vectors.shape[1],
        distance=edge.Distance.Cosine,
        quantization_config=KINDS[kind],
    )
    shard = edge.EdgeShard.create(str(path), edge.EdgeConfig(vectors={"image": params}))
    for start in range(0, len(vectors), BATCH):
        rows = vectors[start : start + BATCH]
        points = [
            edge.Point(str(uuid.UUID(int=start + n)), {"image": row.tolist()}, {})
            for n, row in enumerate(rows)
        ]
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.optimize()
    return shard


def nearest(
    shard: edge.EdgeShard, vectors: np.ndarray, rows: np.ndarray, params: edge.SearchParams
) -> tuple[list[set[str]], float]:
    """Ids of each row's nearest others, and the median milliseconds of a query."""
    found, seconds = [], []
    for row in rows:
        query = edge.Query.Nearest(vectors[row].tolist(), using="image")
        began = time.perf_counter()
        hits = shard.query(edge.QueryRequest(limit=NEIGHBORS + 1, query=query, params=params))
        seconds.append(time.perf_counter() - began)
        own = str(uuid.UUID(int=int(row)))
        found.append({str(hit.id) for hit in hits if str(hit.id) != own})
    return [set(list(one)[:NEIGHBORS]) for one in found], 1000 * float(np.median(seconds))


def recall_by_factor(
    shard: edge.EdgeShard, vectors: np.ndarray, rows: np.ndarray, quantized: bool
) -> list[tuple[float, float]]:
    """Recall and milliseconds for each factor; without quantization there is one."""
    true, _ = nearest(shard, vectors, rows, edge.SearchParams(exact=True))
    measured = []
    for factor in FACTORS if quantized else (1,):
        rescored = edge.QuantizationSearchParams(rescore=True, oversampling=float(factor))
        params = edge.SearchParams(quantization=rescored if quantized else None)
        found, milliseconds = nearest(shard, vectors, rows, params)
        shares = [len(one & all) / len(all) for one, all in zip(found, true)]
        measured.append((float(np.mean(shares)), milliseconds))
    return measured


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--count", default=20_000, show_default=True, type=click.IntRange(min=1000))
@click.option("--dim", default=512, show_default=True)
@click.option("--cosine", default=0.78, show_default=True, type=click.FloatRange(0, 0.99))
@click.option("--queries", default=100, show_default=True, type=click.IntRange(min=1))
def main(count: int, dim: int, cosine: float, queries: int) -> None:
    """Prints recall@10 and the time of a query, by quantization and oversampling."""
    if count * dim * 4 < LEAST_INDEXED:
        raise click.BadParameter(f"{count:,} x {dim}: too few for the engine to index")
    vectors = uneven_vectors(count, dim, cosine)
    rows = np.random.default_rng(1).choice(count, min(queries, count), replace=False)
    pairs = np.random.default_rng(2).integers(count, size=(2000, 2))
    mean = float(np.mean(np.sum(vectors[pairs[:, 0]] * vectors[pairs[:, 1]], axis=1)))
    heads = [f"x{factor}" for factor in FACTORS]
    table = Table("quantization", *heads, "ms a query")
    table.title = (
        f"recall@{NEIGHBORS}: {count:,} x {dim}, mean cosine {mean:.2f}, {len(rows)} queries"
    )
    with tempfile.TemporaryDirectory() as folder:
        for kind in KINDS:
            shard = filled(Path(folder) / kind.replace(" ", "-"), vectors, kind)
            found = recall_by_factor(shard, vectors, rows, kind != "none")
            shard.close()
            cells = [f"{recall:.3f}" for recall, _ in found]
            times = [milliseconds for _, milliseconds in found]
            cells += [""] * (len(FACTORS) - len(cells))
            table.add_row(kind, *cells, f"{min(times):.1f} to {max(times):.1f}")
    Console().print(table)


if __name__ == "__main__":
    main()
