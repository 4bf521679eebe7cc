"""Validation on a benchmark: its queries answered in memory, by its own protocol."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image

from fti_qdrant.benchmarks.base import Benchmark, summarize
from fti_qdrant.benchmarks.gallery_contents import MissingImages, missing_images_error
from fti_qdrant.benchmarks.rank import compose
from fti_qdrant.benchmarks.records import BenchmarkQuery, GalleryImage, Ranked
from fti_qdrant.benchmarks.registry import find_benchmark, open_benchmark
from fti_qdrant.composers.composer import Composer
from fti_qdrant.errors import BadBenchmark, BadImage
from fti_qdrant.images import open_image
from fti_qdrant.model.backbone import Backbone, ImageFeatures
from fti_qdrant.model.inverter import Inverter

CHUNK = 64
"""Images that pass through the backbone together, and queries that are composed together."""

COMPOSER = "fti"

Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Embedded:
    """A benchmark's images, embedded once, as the backbone is frozen.

    Attributes:
        names: of the gallery, in the order of their spelling.
        vectors: ``[N, d]`` of the gallery, unit length.
        parts: part of the gallery -> the numbers of its images.
        row: reference image -> its row in ``references``.
        references: features of the reference images, 4 (1 + P) w bytes each.
    """

    names: list[str]
    vectors: npt.NDArray[np.float32]
    parts: dict[str, Numbers]
    row: dict[str, int]
    references: ImageFeatures


class BenchmarkValidation:
    """All queries of one split, composed by ``fti``, ranked exactly, without Qdrant.

    The figures are those of ``fti-eval run`` over all queries, with the benchmark's name in front.
    """

    def __init__(self, benchmark: Benchmark):
        self.benchmark = benchmark
        self._embedded: Embedded | None = None

    @classmethod
    def open(cls, name: str, root: str | None, split: str | None) -> BenchmarkValidation:
        """Opens a benchmark, and checks that its answers are public and its images are there.

        Raises BadBenchmark.
        """
        folder = Path(root) if root is not None else find_benchmark(name).own_root
        if folder is None:
            raise BadBenchmark(
                f"validation on {name} needs the folder of its data: --validate {name}:DIR"
            )
        benchmark = open_benchmark(name, folder, split)
        if not benchmark.has_truth:
            raise BadBenchmark(
                f"cannot validate on the {benchmark.split} split: {benchmark.no_truth}"
            )
        benchmark.prepare(lambda done, total: None)
        images = (*benchmark.gallery(), *benchmark.query_images())
        missing = MissingImages.of(image for image in images if image.path is None)
        if missing:
            raise missing_images_error(missing, benchmark)
        return cls(benchmark)

    def figure_names(self) -> tuple[str, ...]:
        """The figures that ``__call__`` gives."""
        queries = self.benchmark.queries
        lists = [[*query.relevant] for query in queries]
        return tuple(self._figures(lists, [[*query.subset] for query in queries]))

    def embed(self, backbone: Backbone) -> None:
        """Embeds all images, if that is not done. Raises BadImage for an unreadable one."""
        if self._embedded is None:
            self._embedded = _embed(self.benchmark, backbone)

    @torch.inference_mode()
    def __call__(self, backbone: Backbone, inverter: Inverter) -> dict[str, float]:
        self.embed(backbone)
        assert self._embedded is not None
        training = inverter.training
        composer = Composer(backbone, inverter.eval())
        lists: list[list[str]] = []
        subsets: list[list[str]] = []
        queries = self.benchmark.queries
        for start in range(0, len(queries), CHUNK):
            chunk = queries[start : start + CHUNK]
            for query, vector in zip(chunk, self._composed(composer, chunk)):
                scores = self._embedded.vectors @ vector
                lists.append(self._ranked(query, scores))
                subsets.append(self._subset(query, scores))
        inverter.train(training)
        return self._figures(lists, subsets)

    def _composed(
        self, composer: Composer, queries: Sequence[BenchmarkQuery]
    ) -> npt.NDArray[np.float32]:
        embedded = self._embedded
        assert embedded is not None
        rows = [embedded.row[id] for query in queries for id in query.references]
        taken = embedded.references.take(rows)
        device = composer.backbone.device
        features = ImageFeatures(taken.pooled.to(device), taken.required_tokens().to(device))
        sizes = tuple(len(query.references) for query in queries)
        references = composer.references(features, sizes)
        vectors, _ = compose(composer, references, queries, COMPOSER)
        made: npt.NDArray[np.float32] = vectors.float().cpu().numpy()
        return made

    def _ranked(self, query: BenchmarkQuery, scores: npt.NDArray[np.float32]) -> list[str]:
        """The query's part of the gallery, best first, equal scores by name."""
        embedded, benchmark = self._embedded, self.benchmark
        assert embedded is not None
        part = np.arange(len(scores)) if query.part is None else embedded.parts[query.part]
        order = part[np.argsort(-scores[part], kind="stable")]
        left_out = () if benchmark.reference_stays else query.references
        names = (embedded.names[number] for number in order)
        return list(islice((one for one in names if one not in left_out), benchmark.depth(query)))

    def _subset(self, query: BenchmarkQuery, scores: npt.NDArray[np.float32]) -> list[str]:
        wanted = set(query.subset)
        if not wanted:
            return []
        embedded = self._embedded
        assert embedded is not None
        names = (embedded.names[at] for at in np.argsort(-scores, kind="stable"))
        return list(islice((one for one in names if one in wanted), len(wanted)))

    def _figures(self, lists: list[list[str]], subsets: list[list[str]]) -> dict[str, float]:
        benchmark = self.benchmark
        measured = benchmark.measure(Ranked(lists, subsets if any(subsets) else None))
        figures = summarize(measured, benchmark.groups())[benchmark.whole]
        both = {**figures, **benchmark.set_figures(measured)}
        return {f"{benchmark.name}_{name}": value for name, value in both.items()}


@torch.inference_mode()
def _embed(benchmark: Benchmark, backbone: Backbone) -> Embedded:
    """Every image passes through the backbone once; those of references keep their tokens."""
    asked = {id for query in benchmark.queries for id in query.references}
    gallery = sorted(benchmark.gallery(), key=lambda image: image.id)
    kept: list[ImageFeatures] = []
    row: dict[str, int] = {}
    vectors = []
    for images, features in _features([*gallery, *benchmark.query_images()], backbone):
        vectors.append(F.normalize(features.pooled.float(), dim=-1))
        chosen = [at for at, image in enumerate(images) if image.id in asked]
        if chosen:
            row |= {images[at].id: len(row) + number for number, at in enumerate(chosen)}
            kept.append(features.take(chosen))
    parts: dict[str, list[int]] = {}
    for number, image in enumerate(gallery):
        for part in image.parts:
            parts.setdefault(part, []).append(number)
    return Embedded(
        [image.id for image in gallery],
        torch.cat(vectors)[: len(gallery)].numpy(),
        {part: np.array(numbers) for part, numbers in parts.items()},
        row,
        ImageFeatures.join(kept),
    )


def _features(
    images: Sequence[GalleryImage], backbone: Backbone
) -> Iterator[tuple[Sequence[GalleryImage], ImageFeatures]]:
    """Images in chunks, with their features on the CPU."""
    for start in range(0, len(images), CHUNK):
        chunk = images[start : start + CHUNK]
        features = backbone.image_features([_opened(image) for image in chunk])
        tokens = features.required_tokens().cpu()
        yield chunk, ImageFeatures(features.pooled.cpu(), tokens)


def _opened(image: GalleryImage) -> Image.Image:
    if image.path is None:
        raise BadImage(f"image {image.id!r} has no file")
    return open_image(image.path).image
