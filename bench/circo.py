"""A benchmark of CIRCO's size through the embedded store: seconds and memory of each stage.

123,403 gallery vectors and 800 queries with four right answers each, all generated; queries,
searches and measures are those of fti-eval.

python bench/circo.py
python bench/circo.py --images 20000 --dim 512
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click
import numpy as np
import torch

from fti_qdrant.benchmarks.base import summarize
from fti_qdrant.benchmarks.circo import CIRCO, OFFICIAL_GALLERY
from fti_qdrant.benchmarks.gallery_contents import NAME, survey
from fti_qdrant.benchmarks.rank import search_batch
from fti_qdrant.benchmarks.rankings import EXACT
from fti_qdrant.benchmarks.records import Ranked
from fti_qdrant.benchmarks.run import BATCH
from fti_qdrant.gallery import EdgeGallery, GalleryPoint, GallerySpec, point_id
from fti_qdrant.model.fingerprint import Fingerprint

UPSERT = 500
ANSWERS = 4


@click.command()
@click.option("--images", default=OFFICIAL_GALLERY, show_default=True)
@click.option("--queries", default=800, show_default=True)
@click.option("--dim", default=768, show_default=True, help="768 is ViT-L/14's.")
def main(images: int, queries: int, dim: int) -> None:
    """Print seconds and peak memory so far of load, check, search and metrics."""
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        answers = rng.choice(images, (queries, ANSWERS), replace=False)
        write_annotations(root, images, answers)
        gallery = EdgeGallery.create(root / "gallery", spec(dim))
        with stage(f"load {images:,} x {dim}"):
            load(gallery, images, dim)
        benchmark = CIRCO(root, "val")
        with stage("check every image by name"):
            assert not survey(gallery, benchmark).absent
        vectors = torch.from_numpy(asked(answers, dim, rng))
        with stage(f"search {queries:,} queries, 50 hits each, exact"):
            found = []
            for start in range(0, queries, BATCH):
                batch = benchmark.queries[start : start + BATCH]
                part = vectors[start : start + BATCH]
                hits = search_batch(gallery, benchmark, batch, part, EXACT)
                found += [[str(hit.payload[NAME]) for hit in one] for one, _ in hits]
        with stage("metrics"):
            figures = summarize(benchmark.measure(Ranked(found)), benchmark.groups())
        gallery.close()
    click.echo(f"mAP@10 {figures['all']['mAP@10']:.4f}, R@10 {figures['all']['R@10']:.4f}")


@contextmanager
def stage(name: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    click.echo(f"{name}: {seconds:.2f} s, peak {peak:,.0f} MB")


def write_annotations(root: Path, images: int, answers: np.ndarray) -> None:
    """CIRCO's own files, for the generated answers."""
    entries = [
        {
            "id": number,
            "reference_img_id": int(right[0]),
            "relative_caption": "generated",
            "target_img_id": int(right[0]),
            "gt_img_ids": [int(one) for one in right],
            "semantic_aspects": ["addition"] if number % 2 else ["viewpoint"],
        }
        for number, right in enumerate(answers)
    ]
    info = {"images": [{"id": id, "file_name": f"{id:012d}.jpg"} for id in range(images)]}
    coco = root / "COCO2017_unlabeled"
    for path, content in (
        (root / "annotations" / "val.json", entries),
        (coco / "annotations" / "image_info_unlabeled2017.json", info),
    ):
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(content))
    (coco / "unlabeled2017").mkdir()


def spec(dim: int) -> GallerySpec:
    fingerprint = Fingerprint("generated", "0" * 16, "GELU", "none", dim)
    return GallerySpec(fingerprint=fingerprint, indexes={NAME: "keyword"})


def load(gallery: EdgeGallery, images: int, dim: int) -> None:
    for start in range(0, images, UPSERT):
        ids = range(start, min(start + UPSERT, images))
        gallery.upsert([GalleryPoint(point_id(str(id)), vector(id, dim), named(id)) for id in ids])
    gallery.flush()


def vector(id: int, dim: int) -> np.ndarray:
    """The generated vector of an image; the same whenever it is asked for."""
    return np.random.default_rng(id).standard_normal(dim, dtype=np.float32)


def named(id: int) -> dict[str, object]:
    return {NAME: str(id), "_fti": {"uri": f"{id:012d}.jpg", "sha256": f"{id:064x}"}}


def asked(answers: np.ndarray, dim: int, rng: np.random.Generator) -> np.ndarray:
    """A query near its right answers: their mean, and as much noise."""
    means = [np.mean([vector(int(id), dim) for id in right], axis=0) for right in answers]
    noise = rng.standard_normal((len(answers), dim), dtype=np.float32)
    return np.stack(means) + noise


if __name__ == "__main__":
    main()
