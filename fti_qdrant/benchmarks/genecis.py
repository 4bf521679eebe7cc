"""GeneCIS: focus on, or change, an attribute or an object; small galleries of their own.

Written from the published description and evaluation code of GeneCIS (Vaze et al., CVPR 2023,
arXiv 2306.07969, repository facebookresearch/genecis, CC BY-NC 4.0); the annotation files were not
at hand.

Layout: the four JSON files in ``genecis/``; of COCO 2017 the validation images in ``val2017/``; of
Visual Genome 1.2 the images in ``VG_100K/`` and ``VG_100K_2/``, or in one folder. Each JSON file is
a list of objects with ``reference``, ``target``, ``gallery`` (a list) and ``condition``. An image
of the object tasks is ``{"val_image_id": ...}``, of the attribute tasks
``{"image_id": ..., "instance_bbox": [x, y, width, height]}``.

Protocol: the images of the attribute tasks are crops around the box. Each query ranks its own
gallery with the target added; R@1, 2, 3; the average over the four tasks. Queries whose gallery is
not of the most frequent length are left out, as the published code does.

Two differences: a target that its gallery lists as well is one image here (the published code
ranks it twice), and a crop is decoded to a PNG file before the model sees it.

Not confirmed, as it needs the files: the number of queries of the tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from fti_qdrant.benchmarks.annotations import find_file, read_records
from fti_qdrant.benchmarks.base import Benchmark, first_existing
from fti_qdrant.benchmarks.crops import Box, Crop, write_crops
from fti_qdrant.benchmarks.metrics import Floats
from fti_qdrant.benchmarks.predictions import ranked_list, ranked_lists
from fti_qdrant.benchmarks.records import BenchmarkQuery, GalleryImage, Official, Ranked
from fti_qdrant.errors import BadBenchmark

TASKS = ("focus_attribute", "change_attribute", "focus_object", "change_object")
RECALL_AT = (1, 2, 3)

ANNOTATIONS = ("genecis", "annotations", "caption", ".")
COCO = ("val2017", "coco/val2017", "coco2017/val2017", "COCO2017/val2017")
GENOME = ("VG_100K", "VG_100K_2", "VG_All", "vg", "visual_genome")
GENOME_ROOTS = (".", "Visual_Genome", "visual_genome", "VisualGenome")
CROPS = "genecis_crops"
OFFICIAL = {split: Official(None) for split in ("all", *TASKS)}


class _Image(BaseModel):
    val_image_id: int | None = Field(None, ge=0)
    image_id: int | None = Field(None, ge=0)
    instance_bbox: tuple[float, float, float, float] | None = None


class _Template(BaseModel):
    reference: _Image
    target: _Image
    gallery: list[_Image] = Field(min_length=1)
    condition: str


@dataclass
class _Templates:
    """What the annotation files say.

    Attributes:
        galleries: query -> its gallery, the target first.
        crops: image -> the crop that it is.
    """

    queries: list[BenchmarkQuery] = field(default_factory=list)
    galleries: dict[str, list[str]] = field(default_factory=dict)
    crops: dict[str, Crop] = field(default_factory=dict)


class GeneCIS(Benchmark):
    """R@K within the small gallery of each query; ``all`` is the average over the four tasks."""

    name = "genecis"
    splits = ("all", *TASKS)
    protocol = (
        "GeneCIS: each query ranks its own gallery, the target among it; attribute tasks: crops "
        "around the box, dilated by 0.7 and padded to squares; R@1,2,3; all: the average over the "
        "four tasks"
    )
    reference_stays = True
    headlines = ("R@1", "R@2", "R@3")
    official = OFFICIAL
    download = (
        "download the four JSON files of GeneCIS from its repository into genecis/, the validation "
        "images of COCO 2017 into val2017/, and the images of Visual Genome 1.2 into VG_100K/ and "
        "VG_100K_2/"
    )

    def __init__(self, root: Path, split: str):
        super().__init__(root, split)
        self.tasks = TASKS if split == "all" else (split,)
        self.averaged_over = self.tasks
        self.whole = "average" if split == "all" else "all"

    def prepare(self, advance: Callable[[int, int], None]) -> None:
        """Crops the photos of the attribute tasks that are not cropped yet."""
        write_crops(self._read.crops.values(), advance)

    @cached_property
    def queries(self) -> list[BenchmarkQuery]:
        return self._read.queries

    @cached_property
    def _read(self) -> _Templates:
        read = _Templates()
        for task in self.tasks:
            self._read_task(task, read)
        return read

    def gallery(self) -> Iterator[GalleryImage]:
        parts: dict[str, list[str]] = {}
        for query, gallery in self._read.galleries.items():
            for image in gallery:
                parts.setdefault(image, []).append(query)
        for image, queries in parts.items():
            yield GalleryImage(image, self.picture(image), tuple(queries))

    def query_images(self) -> Iterator[GalleryImage]:
        held = {image for gallery in self._read.galleries.values() for image in gallery}
        for id in dict.fromkeys(query.reference for query in self.queries):
            if id not in held:
                yield GalleryImage(id, self.picture(id))

    def files(self) -> Iterator[GalleryImage]:
        """The photos, not their crops, which are made when they are needed."""
        shown = (id for query in self.queries for id in self._shown(query))
        for photo in dict.fromkeys(map(self._photo_of, shown)):
            yield GalleryImage(photo, self._photo(photo))

    def uses(self) -> dict[str, list[str]]:
        """By image, and by the photo of a crop; a query uses its whole gallery."""
        found: dict[str, dict[str, None]] = {}
        for query in self.queries:
            for image in self._shown(query):
                for id in (image, self._photo_of(image)):
                    found.setdefault(id, {})[query.id] = None
        return {id: list(queries) for id, queries in found.items()}

    def picture(self, id: str) -> Path | None:
        crop = self._read.crops.get(id)
        return self._photo(id) if crop is None else first_existing([crop.path])

    def depth(self, query: BenchmarkQuery) -> int:
        """The whole gallery of the query."""
        return len(self._read.galleries[query.id])

    def measure(self, ranked: Ranked) -> dict[str, Floats]:
        return self.recalls(ranked, RECALL_AT)

    def read_predictions(self, data: Any) -> Ranked:
        """``{"task/number": [image, ...]}``, the ids as in ``per_query.parquet``."""
        lists = ranked_lists(data, [query.id for query in self.queries])
        for query, found in zip(self.queries, lists):
            ranked_list(found, query.id, self._read.galleries[query.id])
        return Ranked(lists)

    def _listed(self) -> Any:
        return self._read.galleries

    def _read_task(self, task: str, read: _Templates) -> None:
        candidates = [f"{folder}/{task}.json" for folder in ANNOTATIONS]
        path = find_file(self.root, candidates, self.download)
        templates = read_records(path, _Template)
        lengths = Counter(len(one.gallery) for one in templates)
        usual = min(length for length, count in lengths.items() if count == max(lengths.values()))
        for number, one in enumerate(templates):
            if len(one.gallery) != usual:
                continue
            where = f"{str(path)!r}, query number {number}"
            images = [one.reference, one.target, *one.gallery]
            reference, target, *others = (self._id(image, where, read) for image in images)
            id = f"{task}/{number}"
            read.queries.append(
                BenchmarkQuery(id, reference, (one.condition,), (target,), part=id, aspects=(task,))
            )
            read.galleries[id] = list(dict.fromkeys([target, *others]))

    def _id(self, image: _Image, where: str, read: _Templates) -> str:
        """``coco-ID`` for a photo, ``vg-ID-x-y-width-height`` for a crop."""
        if image.val_image_id is not None:
            return f"coco-{image.val_image_id}"
        if image.image_id is None or image.instance_bbox is None:
            raise BadBenchmark(
                f"{where}: an image has neither val_image_id nor image_id with instance_bbox; the "
                "file is of another version, download it again"
            )
        photo = f"vg-{image.image_id}"
        id = "-".join([photo, *(f"{side:.10g}" for side in image.instance_bbox)])
        if id not in read.crops:
            target, box = self.root / CROPS / f"{id}.png", Box(*image.instance_bbox)
            read.crops[id] = Crop(photo, self._photo(photo), box, target)
        return id

    def _shown(self, query: BenchmarkQuery) -> list[str]:
        """All images that a query uses."""
        return [query.reference, *self._read.galleries[query.id]]

    def _photo_of(self, id: str) -> str:
        crop = self._read.crops.get(id)
        return id if crop is None else crop.photo

    def _photo(self, id: str) -> Path | None:
        source, _, number = id.partition("-")
        if source == "coco":
            return first_existing([self.root / one / f"{int(number):012d}.jpg" for one in COCO])
        return first_existing([folder / f"{number}.jpg" for folder in self._genome])

    @cached_property
    def _genome(self) -> list[Path]:
        """The folders of Visual Genome that are there."""
        folders = [self.root / outer / inner for outer in GENOME_ROOTS for inner in GENOME]
        return [folder for folder in folders if folder.is_dir()]
