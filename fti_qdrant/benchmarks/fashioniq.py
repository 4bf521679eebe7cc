"""FashionIQ: clothes, changed as two captions say, in three categories with their own galleries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from fti_qdrant.benchmarks.annotations import find_file, read_json, read_records
from fti_qdrant.benchmarks.base import Benchmark, first_existing
from fti_qdrant.benchmarks.metrics import Floats
from fti_qdrant.benchmarks.predictions import ranked_list
from fti_qdrant.benchmarks.records import BenchmarkQuery, GalleryImage, Official, Ranked
from fti_qdrant.errors import BadBenchmark, BadPredictions

CATEGORIES = ("dress", "shirt", "toptee")
OFFICIAL = {"val": Official(6016, "805211ea4a6bd30b"), "test": Official(6118, "13bec0cb2be2e1b6")}
"""The published annotation files; see ``Benchmark.digest``."""

IMAGE_FOLDERS = ("images", "resized_image", "resized_images", "image", ".")
SUFFIXES = (".jpg", ".png", ".jpeg", ".JPG", ".PNG")


class _Caption(BaseModel):
    candidate: str
    captions: list[str] = Field(min_length=2, max_length=2)
    target: str | None = None


class FashionIQ(Benchmark):
    """R@10 and R@50 in each category, and their averages; the reference stays in the gallery."""

    name = "fashioniq"
    splits = ("val", "test", "train")
    protocol = (
        "FashionIQ: per category, gallery = the category's split list; 'C1 and C2' and 'C2 and C1' "
        "composed, normalized, averaged, normalized; the reference stays in the gallery; R@10, R@50"
    )
    reference_stays = True
    download = (
        "download FashionIQ's captions/ and image_splits/ from its repository, and its images "
        "into images/ (one folder, or one for each category)"
    )
    headlines = ("R@10", "R@50")
    official = OFFICIAL
    whole = "average"
    averaged_over = CATEGORIES

    @cached_property
    def queries(self) -> list[BenchmarkQuery]:
        return [query for category in CATEGORIES for query in self._of(category)]

    @cached_property
    def _lists(self) -> dict[str, dict[str, None]]:
        """Category -> its gallery, in the order of the split file."""
        lists = {}
        for category in CATEGORIES:
            path = self._file(f"image_splits/split.{category}.{self.split}.json")
            names = read_json(path, list[str])
            lists[category] = dict.fromkeys(names)
            if len(lists[category]) < len(names):
                raise BadBenchmark(f"{str(path)!r} lists an image twice; download it again")
        return lists

    def gallery(self) -> Iterator[GalleryImage]:
        parts: dict[str, list[str]] = {}
        for category, names in self._lists.items():
            for name in names:
                parts.setdefault(name, []).append(category)
        for name, categories in parts.items():
            yield GalleryImage(name, self._find(name, categories), tuple(categories))

    def picture(self, id: str) -> Path | None:
        return self._find(id, [one for one in CATEGORIES if id in self._lists[one]])

    def measure(self, ranked: Ranked) -> dict[str, Floats]:
        return self.recalls(ranked, (10, 50))

    def read_predictions(self, data: Any) -> Ranked:
        """``{category: [[image, ...] for each query in the order of the caption file]}``."""
        if not isinstance(data, Mapping) or set(data) != set(CATEGORIES):
            keys = ", ".join(map(str, data)) if isinstance(data, Mapping) else type(data).__name__
            raise BadPredictions(
                f"expected one list for each of {', '.join(CATEGORIES)}; got: {keys}"
            )
        images = []
        for category in CATEGORIES:
            lists, gallery = data[category], self._lists[category]
            queries = [query for query in self.queries if query.part == category]
            if not isinstance(lists, list) or len(lists) != len(queries):
                count = len(lists) if isinstance(lists, list) else type(lists).__name__
                raise BadPredictions(
                    f"{category}: {count} ranked lists, but {self._captions(category)} "
                    f"has {len(queries)} queries"
                )
            images += [ranked_list(one, query.id, gallery) for one, query in zip(lists, queries)]
        return Ranked(images)

    def predictions(self, ranked: Ranked) -> dict[str, Any]:
        images = iter(ranked.images or [])
        counts = {one: sum(query.part == one for query in self.queries) for one in CATEGORIES}
        lists = {one: list(islice(images, count)) for one, count in counts.items()}
        return {f"fashioniq_{self.split}.json": lists}

    def _listed(self) -> Any:
        return {category: list(names) for category, names in self._lists.items()}

    def _of(self, category: str) -> Iterator[BenchmarkQuery]:
        path, gallery = self._captions(category), self._lists[category]
        for number, row in enumerate(read_records(path, _Caption)):
            where = f"{str(path)!r}, query number {number}"
            if row.target is None and self.split != "test":
                raise BadBenchmark(f"{where} has no target; download the file of this split again")
            for name in (row.candidate, row.target):
                if name is not None and name not in gallery:
                    raise BadBenchmark(f"{where}: image {name!r} is not in the {category} gallery")
            first, second = (caption.strip(".?, ") for caption in row.captions)
            yield BenchmarkQuery(
                id=f"{category}/{number}",
                reference=row.candidate,
                texts=(f"{first} and {second}", f"{second} and {first}"),
                relevant=(row.target,) if row.target else (),
                part=category,
                aspects=(category,),
            )

    def _captions(self, category: str) -> Path:
        return self._file(f"captions/cap.{category}.{self.split}.json")

    def _file(self, name: str) -> Path:
        return find_file(self.root, (name, Path(name).name), self.download)

    def _find(self, name: str, categories: list[str]) -> Path | None:
        """Images are in one folder, or in one for each category."""
        folders = [folder for folder in IMAGE_FOLDERS if (self.root / folder).is_dir()]
        roots = [self.root / folder for folder in folders]
        roots += [root / category for category in categories for root in roots]
        return first_existing([root / f"{name}{suffix}" for root in roots for suffix in SUFFIXES])
