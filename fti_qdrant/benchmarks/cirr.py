"""CIRR: everyday photos in sets of six similar ones."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from fti_qdrant.benchmarks.annotations import find_file, read_json, read_records
from fti_qdrant.benchmarks.base import Benchmark, first_existing
from fti_qdrant.benchmarks.metrics import Floats
from fti_qdrant.benchmarks.predictions import other_lengths, ranked_lists
from fti_qdrant.benchmarks.records import DEPTH, BenchmarkQuery, GalleryImage, Official, Ranked
from fti_qdrant.errors import BadBenchmark, BadPredictions

VERSION = "rc2"
RECALL_AT, SUBSET_AT = (1, 5, 10, 50), (1, 2, 3)
OFFICIAL = {"val": Official(4181, "6d44f557e9c780bf"), "test1": Official(4148, "70347faf34934202")}
"""The published annotation files; see ``Benchmark.digest``."""

IMAGE_FOLDERS = (".", "img_raw", "images", "cirr_dataset", "NLVR2")
RECALL, SUBSET = "recall", "recall_subset"


class _ImageSet(BaseModel):
    members: list[str] = Field(min_length=2)


class _Pair(BaseModel):
    pairid: int
    reference: str
    caption: str
    target_hard: str | None = None
    img_set: _ImageSet


class CIRR(Benchmark):
    """R@K over the gallery, and R@K among the other five images of the reference's set."""

    name = "cirr"
    splits = ("val", "test1", "train")
    protocol = (
        "CIRR (rc2): gallery without the reference; R@1,5,10,50; subset R@1,2,3 among the "
        "other five members of the image set"
    )
    reference_stays = False
    headlines = ("R@1", "subset R@1")
    official = OFFICIAL
    download = (
        "download CIRR's captions/ and image_splits/ (rc2) from its repository, and the images "
        "of NLVR2 as dev/, test1/ and train/0..99/ next to them"
    )

    @cached_property
    def queries(self) -> list[BenchmarkQuery]:
        path = self._file(f"captions/cap.{VERSION}.{self.split}.json")
        queries = [self._query(pair, path) for pair in read_records(path, _Pair)]
        ids = [query.id for query in queries]
        if len(set(ids)) < len(ids):
            raise BadBenchmark(f"{str(path)!r} has a pairid twice; download it again")
        return queries

    @cached_property
    def _paths(self) -> dict[str, str]:
        """Image -> its path relative to the folder of images."""
        path = self._file(f"image_splits/split.{VERSION}.{self.split}.json")
        paths: dict[str, str] = read_json(path, dict[str, str])
        return paths

    def gallery(self) -> Iterator[GalleryImage]:
        for name in self._paths:
            yield GalleryImage(name, self.picture(name))

    def picture(self, id: str) -> Path | None:
        relative = self._paths[id]
        return first_existing([self.root / folder / relative for folder in IMAGE_FOLDERS])

    def measure(self, ranked: Ranked) -> dict[str, Floats]:
        return self.recalls(ranked, RECALL_AT, SUBSET_AT)

    def read_predictions(self, data: Any) -> Ranked:
        """``{pairid: [image, ...]}``, with optional keys ``version`` and ``metric``.

        The reference is removed from the lists, as the protocol demands. With the metric
        ``recall_subset`` they rank the image set only. Without a metric, the subset is measured
        too if every list holds its whole set.
        """
        if not isinstance(data, Mapping):
            raise BadPredictions(f"expected an object: pairid -> list of images, got {data!r:.60}")
        metric, version = data.get("metric"), data.get("version", VERSION)
        if version != VERSION:
            raise BadPredictions(f"version {version!r} is not supported; use {VERSION!r}")
        if metric not in (None, RECALL, SUBSET):
            raise BadPredictions(f"metric {metric!r} is neither {RECALL!r} nor {SUBSET!r}")
        lists = {key: value for key, value in data.items() if key not in ("metric", "version")}
        images = ranked_lists(lists, [query.id for query in self.queries], self._paths)
        without = [
            [image for image in found if image != query.reference]
            for found, query in zip(images, self.queries)
        ]
        dropped = sum(len(found) > len(kept) for found, kept in zip(images, without))
        note = f"the reference was in {dropped} lists and was removed, as CIRR's protocol demands"
        notes = (note,) if dropped else ()
        if metric == SUBSET:
            self._check_members(without)
            return Ranked(None, without, notes)
        subsets = [
            [image for image in found if image in query.subset]
            for found, query in zip(without, self.queries)
        ]
        whole = all(len(one) == len(query.subset) for one, query in zip(subsets, self.queries))
        return Ranked(without, subsets if whole and metric is None else None, notes)

    def submission_faults(self, data: Any, ranked: Ranked) -> list[str]:
        """The server takes two files, with the keys version and metric: 50 images, 3 members."""
        faults = [
            f"the key {key!r} is missing; the server needs {wanted}"
            for key, wanted in (
                ("version", f'"version": "{VERSION}"'),
                ("metric", f'"metric": "{RECALL}" or "{SUBSET}"'),
            )
            if key not in data
        ]
        if ranked.images is None:
            lists, most = ranked.subsets or [], max(SUBSET_AT)
        else:
            lists, most = ranked.images, min(DEPTH, len(self._paths) - 1)
        ids = [query.id for query in self.queries]
        return [*faults, *other_lengths(dict(zip(ids, lists)), dict.fromkeys(ids, most))]

    def predictions(self, ranked: Ranked) -> dict[str, Any]:
        """The two files that the evaluation server takes."""
        files = {}
        for metric, lists, most in (
            (RECALL, ranked.images, DEPTH),
            (SUBSET, ranked.subsets, max(SUBSET_AT)),
        ):
            if lists is not None:
                by_pair = {query.id: one[:most] for query, one in zip(self.queries, lists)}
                content = {"version": VERSION, "metric": metric, **by_pair}
                files[f"cirr_{self.split}_{metric}.json"] = content
        return files

    def _listed(self) -> Any:
        return list(self._paths)

    def _query(self, pair: _Pair, path: Path) -> BenchmarkQuery:
        where = f"{str(path)!r}, pairid {pair.pairid}"
        subset = tuple(image for image in pair.img_set.members if image != pair.reference)
        if pair.target_hard is None and self.split != "test1":
            raise BadBenchmark(f"{where} has no target_hard; download the file of this split again")
        for image in (pair.reference, pair.target_hard, *subset):
            if image is not None and image not in self._paths:
                raise BadBenchmark(f"{where}: image {image!r} is not in the gallery of this split")
        return BenchmarkQuery(
            id=str(pair.pairid),
            reference=pair.reference,
            texts=(pair.caption,),
            relevant=(pair.target_hard,) if pair.target_hard else (),
            subset=subset,
        )

    def _check_members(self, lists: list[list[str]]) -> None:
        for found, query in zip(lists, self.queries):
            for image in found:
                if image not in query.subset:
                    raise BadPredictions(f"query {query.id!r}: {image!r} is not in its image set")

    def _file(self, name: str) -> Path:
        candidates = (name, f"cirr/{name}", Path(name).name)
        older = name.replace(VERSION, "rc1")
        advice = self.download
        if any((self.root / file).is_file() for file in (older, f"cirr/{older}")):
            advice = f"there is an older {older}, and {VERSION} is needed; {advice}"
        return find_file(self.root, candidates, advice)
