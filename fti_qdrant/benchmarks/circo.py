"""CIRCO: open-domain photos of COCO 2017 unlabeled, with several right answers for a query."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field

from fti_qdrant.benchmarks import metrics
from fti_qdrant.benchmarks.annotations import find_file, read_json, read_records
from fti_qdrant.benchmarks.base import Benchmark, first_existing
from fti_qdrant.benchmarks.metrics import Floats
from fti_qdrant.benchmarks.predictions import number_id, other_lengths, ranked_lists
from fti_qdrant.benchmarks.records import DEPTH, BenchmarkQuery, GalleryImage, Official, Ranked
from fti_qdrant.errors import BadBenchmark

DEPTHS = (5, 10, 25, 50)
OFFICIAL_GALLERY = 123_403
OFFICIAL = {"val": Official(220, "20f16607f4e25a20"), "test": Official(800, "bd0ba2ee51173240")}
"""The published annotation files; see ``Benchmark.digest``."""

PICTURES = ("COCO2017_unlabeled/unlabeled2017", "unlabeled2017")
IMAGE_INFO = tuple(
    f"{folder}annotations/image_info_unlabeled2017.json" for folder in ("COCO2017_unlabeled/", "")
)


class _Entry(BaseModel):
    id: int = Field(ge=0)
    reference_img_id: int
    relative_caption: str
    target_img_id: int | None = None
    gt_img_ids: list[int] = []
    semantic_aspects: list[str] = []


class _Image(BaseModel):
    id: int
    file_name: str


class _ImageInfo(BaseModel):
    images: list[_Image]


class CIRCO(Benchmark):
    """mAP@K over all right answers, R@K of the one target; the reference stays in the gallery."""

    name = "circo"
    splits = ("val", "test")
    protocol = (
        "CIRCO: gallery = COCO 2017 unlabeled; mAP@5,10,25,50, precision summed over hits in the "
        "first K and divided by min(K, right answers); R@K of the target; mAP@10 by semantic "
        "aspect; the reference stays in the gallery"
    )
    reference_stays = True
    headlines = ("mAP@10",)
    official = OFFICIAL
    download = (
        "download CIRCO's annotations/ from its repository, and of COCO 2017 the unlabeled images "
        "into COCO2017_unlabeled/unlabeled2017/ and image_info_unlabeled2017.json into "
        "COCO2017_unlabeled/annotations/"
    )

    @cached_property
    def queries(self) -> list[BenchmarkQuery]:
        file = f"annotations/{self.split}.json"
        path = find_file(self.root, (file, Path(file).name), self.download)
        queries = [self._query(entry, path) for entry in read_records(path, _Entry)]
        ids = [query.id for query in queries]
        if len(set(ids)) < len(ids):
            raise BadBenchmark(f"{str(path)!r} has a query id twice; download it again")
        return queries

    @cached_property
    def _files(self) -> dict[int, str] | None:
        """Image -> file name, as COCO lists them; None where only the image files are there."""
        path = first_existing([self.root / file for file in IMAGE_INFO])
        if path is None:
            return None
        return {image.id: image.file_name for image in read_json(path, _ImageInfo).images}

    def gallery(self) -> Iterator[GalleryImage]:
        if self._files is not None:
            for number in self._files:
                yield GalleryImage(str(number), self.picture(str(number)))
            return
        needed = dict.fromkeys(id for q in self.queries for id in (q.reference, *q.relevant))
        for path in sorted(self._folder.glob("*.jpg")):
            if path.stem.isdigit():
                needed.pop(id := str(int(path.stem)), None)
                yield GalleryImage(id, path)
        for id in needed:
            yield GalleryImage(id, None)

    def picture(self, id: str) -> Path | None:
        files = self._files
        name = f"{int(id):012d}.jpg" if files is None else files.get(int(id))
        return None if name is None else first_existing([self._folder / name])

    def measure(self, ranked: Ranked) -> dict[str, Floats]:
        recalls = self.recalls(ranked, DEPTHS)
        right = [query.relevant for query in self.queries]
        found = metrics.matches(ranked.images or [], right, [query.id for query in self.queries])
        answers = np.array([len(one) for one in right])
        precisions = {f"mAP@{k}": metrics.average_precision(found, answers, k) for k in DEPTHS}
        return {**precisions, **recalls}

    def read_predictions(self, data: Any) -> Ranked:
        """``{query id: [image id, ...]}``, CIRCO's submission format."""
        gallery = None if self._files is None else {str(id) for id in self._files}
        ids = [query.id for query in self.queries]
        return Ranked(ranked_lists(data, ids, gallery, number_id))

    def submission_faults(self, data: Any, ranked: Ranked) -> list[str]:
        """The server takes 50 different images for each query."""
        ids = [query.id for query in self.queries]
        lists = dict(zip(ids, ranked.images or []))
        return other_lengths(lists, dict.fromkeys(ids, DEPTH), most=DEPTH)

    def predictions(self, ranked: Ranked) -> dict[str, Any]:
        """The file that the evaluation server takes: 50 ids for each query."""
        lists = {
            query.id: [int(image) for image in found[:DEPTH]]
            for query, found in zip(self.queries, ranked.images or [])
        }
        return {f"circo_{self.split}.json": lists}

    def deviations(self) -> list[str]:
        """Also a gallery of another size."""
        count = len(self._files) if self._files is not None else sum(1 for _ in self.gallery())
        other = f"{count:,} gallery images, officially {OFFICIAL_GALLERY:,}"
        return self.annotation_deviations() + ([] if count == OFFICIAL_GALLERY else [other])

    @cached_property
    def _folder(self) -> Path:
        for folder in PICTURES:
            if (self.root / folder).is_dir():
                return self.root / folder
        raise BadBenchmark(f"{str(self.root / PICTURES[0])!r} is missing; {self.download}")

    def _query(self, entry: _Entry, path: Path) -> BenchmarkQuery:
        right = entry.gt_img_ids
        where = f"{str(path)!r}, query {entry.id}"
        if self.split == "val" and (not right or right[0] != entry.target_img_id):
            raise BadBenchmark(
                f"{where}: gt_img_ids must begin with target_img_id; the file is of another "
                "version, download it again"
            )
        if len(set(right)) < len(right):
            raise BadBenchmark(f"{where}: a right answer is there twice; download the file again")
        for id in (entry.reference_img_id, *right):
            if self._files is not None and id not in self._files:
                raise BadBenchmark(f"{where}: image {id} is not in the gallery that COCO lists")
        return BenchmarkQuery(
            id=str(entry.id),
            reference=str(entry.reference_img_id),
            texts=(entry.relative_caption,),
            relevant=tuple(map(str, right)),
            aspects=tuple(entry.semantic_aspects),
        )
