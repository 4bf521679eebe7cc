"""What a benchmark is: a gallery, queries with right answers, measures, a submission format."""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from fti_qdrant.benchmarks import metrics
from fti_qdrant.benchmarks.metrics import Floats
from fti_qdrant.benchmarks.records import (
    DEPTH,
    BenchmarkQuery,
    GalleryImage,
    Official,
    Ranked,
    hashed_facts,
)
from fti_qdrant.errors import BadBenchmark, BadPredictions

RECALL_AT = (1, 5, 10, 50)
"""The usual K of R@K."""

Strata = list[np.ndarray]
"""Row numbers of queries, in groups; a figure is the mean over the groups of each group's mean."""


class Benchmark(ABC):
    """One split of one benchmark, read from its folder.

    A subclass needs names, ``queries`` and ``gallery``; the rest has defaults: R@K of the target,
    and ranked lists by query id. Reading the annotations raises BadBenchmark, naming the file and
    the query. Image files are searched for only when ``gallery`` is iterated.
    """

    name: ClassVar[str]
    splits: ClassVar[tuple[str, ...]]
    protocol: ClassVar[str]
    """The protocol in words, for metrics.json."""

    reference_stays: ClassVar[bool]
    """Whether the reference image stays in the gallery, so that results may contain it."""

    download: ClassVar[str]
    """What to download, and where to put it."""

    headlines: ClassVar[tuple[str, ...]] = ("R@1", "R@10")
    """The measures that are shown for each aspect too; the first one is the main figure."""

    one_target: ClassVar[bool] = True
    """Whether a query has one target; otherwise the first of its right answers found counts."""

    own_root: ClassVar[Path | None] = None
    """Where it keeps images that it draws itself; None where they are downloaded."""

    whole: str = "all"
    """Name of the figure over all queries."""

    official: ClassVar[Mapping[str, Official]] = {}
    """Split -> what is in the published annotation files."""

    averaged_over: tuple[str, ...] = ()
    """Aspects whose figures are averaged to the whole; empty: the mean over all queries."""

    def __init__(self, root: Path, split: str):
        if split not in self.splits:
            raise BadBenchmark(
                f"{self.name} has no split {split!r}; it has {', '.join(self.splits)}"
            )
        self.root = root
        self.split = split
        self._check_root()

    def _check_root(self) -> None:
        if not self.root.is_dir():
            raise BadBenchmark(f"{self.name}: no folder {str(self.root)!r}; {self.download}")

    def prepare(self, advance: Callable[[int, int], None]) -> None:
        """Draws the images, if the benchmark draws its own.

        Args:
            advance: called with the number of images done, and the total.
        """
        return

    @cached_property
    @abstractmethod
    def queries(self) -> list[BenchmarkQuery]:
        """All queries of the split, in the order of the annotation file."""

    @abstractmethod
    def gallery(self) -> Iterator[GalleryImage]:
        """Every image of the split's gallery, one at a time."""

    def query_images(self) -> Iterator[GalleryImage]:
        """Reference images that are not in the gallery."""
        return iter(())

    def files(self) -> Iterator[GalleryImage]:
        """Every image file that must be there."""
        yield from self.gallery()
        yield from self.query_images()

    def picture(self, id: str) -> Path | None:
        """The file of an image; None where it is missing."""
        return self._pictures.get(id)

    @cached_property
    def _pictures(self) -> dict[str, Path | None]:
        return {image.id: image.path for image in (*self.gallery(), *self.query_images())}

    def depth(self, query: BenchmarkQuery) -> int:
        """How many images the measures need ranked for a query."""
        return DEPTH

    def title(self, id: str) -> str:
        """The name of an image for people."""
        return id

    def measure(self, ranked: Ranked) -> dict[str, Floats]:
        """Measure -> its value for each query. Raises BadPredictions."""
        return self.recalls(ranked, RECALL_AT)

    def set_figures(self, measured: Mapping[str, Floats]) -> dict[str, float]:
        """Figures that are no means over queries, but compare the queries of a set.

        Args:
            measured: of ``measure``.
        """
        return {}

    def read_predictions(self, data: Any) -> Ranked:
        """A parsed ranked-list file -> rankings in the order of the queries.

        The default format is ``{query id: [image id, ...]}``.

        Raises BadPredictions: missing, duplicate or unknown queries or images.
        """
        from fti_qdrant.benchmarks.predictions import ranked_lists

        gallery = {image.id for image in self.gallery()}
        return Ranked(ranked_lists(data, [query.id for query in self.queries], gallery))

    def submission_faults(self, data: Any, ranked: Ranked) -> list[str]:
        """Why the benchmark's server would refuse a file of ranked lists.

        Args:
            data: the parsed file.
            ranked: what ``read_predictions`` made of it.
        """
        return []

    def predictions(self, ranked: Ranked) -> dict[str, Any]:
        """File name -> content, in the format of the official server and of ``fti-eval score``."""
        lists = {query.id: found for query, found in zip(self.queries, ranked.images or [])}
        return {f"{self.name}_{self.split}.json": lists}

    def annotation_deviations(self) -> list[str]:
        """How the annotation files differ from those that published figures were measured on."""
        official = self.official.get(self.split)
        if official is None:
            return [f"there are no published files to compare the {self.split} split with"]
        if official.queries is not None and len(self.queries) != official.queries:
            return [f"{len(self.queries)} queries, officially {official.queries}"]
        if official.digest is not None and self.digest != official.digest:
            return [f"the annotations differ from the published files ({self.digest})"]
        return []

    @property
    def unchecked(self) -> str | None:
        """What of the annotations could not be compared with the published files."""
        official = self.official.get(self.split)
        if official is None or official.digest is not None:
            return None
        compared = "they" if official.queries is None else "beyond their number of queries they"
        return (
            f"the checksum of the published annotations of {self.name} is not known; {compared} "
            "were not compared"
        )

    def deviations(self) -> list[str]:
        """Everything that makes figures on this folder not comparable with published ones."""
        return self.annotation_deviations()

    @property
    def has_truth(self) -> bool:
        """Whether the split's right answers are public."""
        return all(query.relevant for query in self.queries)

    def uses(self) -> dict[str, list[str]]:
        """Image -> the queries that use it: as reference, as right answer or in the subset."""
        found: dict[str, list[str]] = {}
        for query in self.queries:
            for image in dict.fromkeys((*query.references, *query.relevant, *query.subset)):
                found.setdefault(image, []).append(query.id)
        return found

    @cached_property
    def digest(self) -> str:
        """A hash of all queries, and of the gallery where the annotations list it."""
        facts = json.dumps([*map(hashed_facts, self.queries), self._listed()])
        return hashlib.sha256(facts.encode()).hexdigest()[:16]

    def _listed(self) -> Any:
        """The gallery as the annotation files list it; None where they do not."""
        return None

    def groups(self) -> dict[str, Strata]:
        """Name -> the queries that its figures are computed over: the whole, then each aspect."""
        return grouped([query.aspects for query in self.queries], self.whole, self.averaged_over)

    def recalls(
        self, ranked: Ranked, at: Sequence[int], subset_at: Sequence[int] = ()
    ) -> dict[str, Floats]:
        """R@K of the target in what was ranked: the whole gallery, each query's subset, or both.

        Raises BadPredictions where neither was ranked.
        """
        targets = [query.relevant[:1] for query in self.queries]
        ids = [query.id for query in self.queries]
        measured: dict[str, Floats] = {}
        if ranked.images is not None:
            found = metrics.matches(ranked.images, targets, ids)
            measured |= {f"R@{k}": metrics.recall(found, k) for k in at}
        if ranked.subsets is not None and subset_at:
            found = metrics.matches(ranked.subsets, targets, ids)
            measured |= {f"subset R@{k}": metrics.recall(found, k) for k in subset_at}
        if not measured:
            raise BadPredictions(f"{self.name} needs ranked lists of the whole gallery")
        return measured

    @property
    def no_truth(self) -> str:
        """Why there are no figures where ``has_truth`` is False, and what to do."""
        return (
            f"the right answers of {self.name} {self.split} are not public; send the submission "
            "file to the benchmark's server"
        )


def grouped(
    aspects: Sequence[Sequence[str]], whole: str, averaged_over: Sequence[str]
) -> dict[str, Strata]:
    """The groups of queries with these aspects; see ``Benchmark.groups``."""
    rows: dict[str, list[int]] = {}
    for row, names in enumerate(aspects):
        for name in names:
            rows.setdefault(name, []).append(row)
    of = {name: np.array(rows[name]) for name in sorted(rows)}
    strata = [of[name] for name in averaged_over] or [np.arange(len(aspects))]
    return {whole: strata, **{name: [one] for name, one in of.items()}}


def summarize(
    values: Mapping[str, Floats], groups: Mapping[str, Strata]
) -> dict[str, dict[str, float]]:
    """Group -> measure -> mean over the group's strata of the mean over their queries."""
    return {
        group: {measure: stratified_mean(column, strata) for measure, column in values.items()}
        for group, strata in groups.items()
    }


def stratified_mean(column: Floats, strata: Strata) -> float:
    """Mean over strata of the mean over a stratum's queries."""
    return float(np.mean([column[rows].mean() for rows in strata]))


def first_existing(candidates: Sequence[Path]) -> Path | None:
    """The first candidate that is a file."""
    for path in candidates:
        try:
            if path.is_file():
                return path
        except OSError:  # a name too long for this file system
            continue
    return None
