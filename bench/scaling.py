"""What an image costs in the store, measured on Qdrant's engine, and what that makes of many.

    python bench/scaling.py [--count 20000] [--dim 512] [--rate IMAGES_PER_SECOND]

Vectors are random and normal, as HNSW finds hardest; the payload is that of a shop: six fields, and
ours. Bytes are what the files take on the disk after the optimizer has run. The engine is the one
that is embedded here and runs in the server. ``--rate`` is of one model process, in images a
second: ``fti-ingest --profile`` tells yours.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

if __name__ == "__main__":  # also as a file: `python bench/scaling.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import numpy as np
import qdrant_edge as edge
from rich.console import Console
from rich.table import Table

from bench.quantization import KINDS as QUANTIZED
from fti_ingest.sources.column_types import Columns, index_types
from fti_ingest.sources.listing import Listing
from fti_ingest.sources.source import Item
from fti_ingest.stages.deduplicate import Originals
from fti_ingest.stages.perceptual_hash import CELLS, PerceptualHash
from fti_ingest.stages.revisions import PAIR
from fti_qdrant.gallery import IndexType
from fti_qdrant.gallery.edge_engine import index_type
from fti_qdrant.gallery.points import IMAGE_VECTOR, OURS, WORDS_VECTOR, indexes_made

BATCH = 500
TOPK = 12
SIZES = {"1 M": 10**6, "100 M": 10**8, "10 G": 10**10}
KINDS = ("none", "scalar", "turbo4", "turbo2", "turbo1", "binary")
LEAST_INDEXED = 12_000_000
"""Bytes of vectors; below some 10 MB the engine builds neither index nor quantized vectors."""

RAM, USABLE = 256, 0.75
"""Gigabytes of a machine, and the share of it that vectors may take."""


@dataclass(frozen=True)
class PerImage:
    """Bytes of one image on the disk, by part."""

    vector: float
    quantized: float
    index: float
    fields: float
    ids: float
    payload: float
    words: float = 0.0

    def memory(self, kind: str) -> float:
        """What a fast search holds: both indexes, ids, and the vectors that it compares."""
        compared = self.vector if kind == "none" else self.quantized
        return compared + self.index + self.fields + self.ids

    def disk(self) -> float:
        return sum(vars(self).values())


def payload_of(number: int) -> dict[str, object]:
    uri = f"s3://shop/photos/2026/{number // 1000:06d}/{number:09d}.jpg"
    ours = {"uri": uri, "sha256": uuid.uuid4().hex * 2, "width": 1024, "height": 768}
    return {
        "brand": f"brand {number % 97}",
        "title": f"summer dress number {number} with short sleeves",
        "price": number % 900 / 10,
        "color": ["red", "blue"],
        "stock": number % 7,
        "day": "2026-11-24T00:00:00Z",
        "_fti": {**ours, "revision": uuid.uuid4().hex[:16]},
    }


def indexed() -> dict[str, IndexType]:
    """The fields that fti-ingest would index, of a source with such payloads."""
    columns = Columns({}, texts=False)
    payload = {name: value for name, value in payload_of(0).items() if name != OURS}
    columns.see(payload, "", "")
    return indexes_made(index_types(columns.found()))


def config(kind: str, dim: int, words: bool) -> edge.EdgeConfig:
    image = edge.EdgeVectorParams(
        size=dim, distance=edge.Distance.Cosine, quantization_config=QUANTIZED[kind]
    )
    vectors = {IMAGE_VECTOR: image}
    if words:
        vectors[WORDS_VECTOR] = edge.EdgeVectorParams(
            size=dim,
            distance=edge.Distance.Dot,
            datatype=edge.VectorStorageDatatype.Float16,
            multivector_config=edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim),
            hnsw_config=edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10_000),
        )
    return edge.EdgeConfig(vectors=vectors)


def measured(kind: str, dim: int, count: int, words: bool, root: Path) -> PerImage:
    """Fills a shard, has it optimized, and looks at its files."""
    path = root / f"{kind}-{dim}-{words}"
    path.mkdir()
    rng = np.random.default_rng(0)
    shard = edge.EdgeShard.create(str(path), config(kind, dim, words))
    for field, type in indexed().items():
        shard.update(edge.UpdateOperation.create_field_index(field, index_type(type)))
    for start in range(0, count, BATCH):
        points = []
        for number in range(start, min(start + BATCH, count)):
            vectors = {IMAGE_VECTOR: rng.standard_normal(dim).tolist()}
            if words:
                vectors[WORDS_VECTOR] = rng.standard_normal((1 + TOPK, dim)).tolist()
            points.append(edge.Point(str(uuid.uuid4()), vectors, payload_of(number)))
        shard.update(edge.UpdateOperation.upsert_points(points))
    shard.flush()
    if not words:
        shard.optimize()
        shard.flush()
    shard.close()

    def size(*patterns: str) -> float:
        found = {file for pattern in patterns for file in path.glob(f"segments/*/{pattern}")}
        return sum(file.stat().st_blocks * 512 for file in found if file.is_file()) / count

    quantized = size(f"vector_storage-{IMAGE_VECTOR}/quantized*")
    return PerImage(
        vector=size(f"vector_storage-{IMAGE_VECTOR}/**/*") - quantized,
        quantized=quantized,
        index=size(f"vector_index-{IMAGE_VECTOR}/**/*"),
        ids=size("id_tracker*"),
        fields=size("payload_index/**/*"),
        payload=size("payload_storage/**/*"),
        words=size(f"vector_storage-{WORDS_VECTOR}/**/*"),
    )


def per_image_table(found: dict[str, PerImage], dim: int, count: int) -> Table:
    table = Table("bytes an image", *KINDS, title=f"d = {dim}, {count:,} images")
    for part in ("vector", "quantized", "index", "fields", "ids", "payload", "words"):
        table.add_row(part, *(f"{getattr(found[kind], part):,.0f}" for kind in KINDS))
    table.add_row("in memory", *(f"{found[kind].memory(kind):,.0f}" for kind in KINDS))
    table.add_row("on disk", *(f"{found[kind].disk():,.0f}" for kind in KINDS))
    return table


def plan_table(found: dict[str, PerImage], dim: int, rate: float) -> Table:
    table = Table(
        "images", "quantization", "memory", "disk", f"machines of {RAM} GB", "model hours"
    )
    table.title = f"d = {dim}, with pseudo-words, one copy; model hours at {rate:,.0f} images/s"
    for name, images in SIZES.items():
        for kind in KINDS:
            memory, disk = images * found[kind].memory(kind), images * found[kind].disk()
            machines = max(1, math.ceil(memory / (RAM * 1e9 * USABLE)))
            hours = images / rate / 3600
            row = (name, kind, bytes_told(memory), bytes_told(disk), f"{machines:,}")
            table.add_row(*row, f"{hours:,.1f}")
    return table


def bytes_told(value: float) -> str:
    for unit in ("MB", "GB", "TB"):
        value /= 1e6 if unit == "MB" else 1e3
        if value < 1000 or unit == "TB":
            return f"{value:,.1f} {unit}"
    raise AssertionError


def driver_table(count: int, root: Path) -> Table:
    """What the run itself needs for an image, beside the store."""
    table = Table("the run", "bytes an image", "where", "µs an image")
    began = time.perf_counter()
    listing = Listing()
    for number in range(count):
        payload = {k: v for k, v in payload_of(number).items() if k != "_fti"}
        listing.add(Item(f"{number:09d}.jpg", f"s3://shop/photos/{number:09d}.jpg", payload))
    source = listing.source()
    micros = (time.perf_counter() - began) / count * 1e6
    table.add_row("listing", f"{source.path.stat().st_size / count:,.0f}", "disk", f"{micros:,.0f}")
    table.add_row("ids seen while listing", "8", "memory", "")
    table.add_row("what the gallery holds", f"{PAIR.itemsize}", "memory, then disk", "")
    file = root / "originals.sqlite"
    originals = Originals(str(file))
    rng = np.random.default_rng(0)
    shapes = rng.integers(0, 2**64, count, dtype=np.uint64).tolist()
    looks = [str(PerceptualHash(shape, rng.bytes(CELLS * CELLS * 3))) for shape in shapes]
    began = time.perf_counter()
    for start in range(0, count, BATCH):
        batch = enumerate(looks[start : start + BATCH], start)
        originals.decide_all(
            [(str(uuid.uuid4()), "s3://shop/a.jpg", str(n), look) for n, look in batch]
        )
    micros = (time.perf_counter() - began) / count * 1e6
    originals.close()
    size = sum(one.stat().st_size for one in root.glob("originals.sqlite*"))
    table.add_row("--dedupe", f"{size / count:,.0f}", "disk", f"{micros:,.0f}")
    table.title = f"{count:,} images"
    return table


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--count", default=20_000, show_default=True, type=click.IntRange(min=1000))
@click.option("--dim", "dims", default=(512, 768), show_default=True, multiple=True)
@click.option("--rate", default=25.0, show_default=True, help="Images a second of one model.")
def main(count: int, dims: tuple[int, ...], rate: float) -> None:
    """Prints the bytes of an image, and memory, disk, machines and hours for many."""
    console = Console()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for dim in dims:
            if dim * 4 * count < LEAST_INDEXED:
                raise click.BadParameter(f"{count:,} x {dim}: too few for the engine to index")
            words = measured("none", dim, count // 10, True, root).words
            found = {}
            for kind in KINDS:
                one = measured(kind, dim, count, False, root)
                found[kind] = PerImage(**{**one.__dict__, "words": words})
            console.print(per_image_table(found, dim, count))
            console.print(plan_table(found, dim, rate))
        console.print(driver_table(count * 5, root))


if __name__ == "__main__":
    main()
