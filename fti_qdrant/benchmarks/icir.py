"""i-CIR: photos of one particular object, changed as a text says, among hard negatives.

Written from the published description and evaluation code of i-CIR v1.0.0 (Psomas et al., NeurIPS
2025, arXiv 2510.25387, repository billpsomas/icir, data CC BY-NC-SA 4.0); the data itself was not
at hand.

Layout: the unpacked archive, with ``query_files.csv``, ``database_files.csv`` (or both in
``annotations/``), ``query/`` and ``database/``. Its WebDataset form is not read. The CSV files have
no header; each row is image path, text, instance.

Protocol: each row of the queries is one composed query. It searches the database rows of its own
instance; those with its text are the right answers. The query images are no part of the database.
AP over the whole ranking by the trapezoidal rule; mAP over all queries, and over the instances the
mean of their means (mmAP) and the mean of their worst queries (minmAP).

Not confirmed, as it needs the data: which folder the image paths are relative to (with or without
a leading folder name are both found), and whether a database image can have several rows (it is
then one image, right for each of its texts).
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from fti_qdrant.benchmarks import metrics
from fti_qdrant.benchmarks.annotations import find_file
from fti_qdrant.benchmarks.base import Benchmark, first_existing
from fti_qdrant.benchmarks.metrics import Floats
from fti_qdrant.benchmarks.predictions import ranked_list, ranked_lists
from fti_qdrant.benchmarks.rankings import right_ranks
from fti_qdrant.benchmarks.records import BenchmarkQuery, GalleryImage, Official, Ranked
from fti_qdrant.errors import BadBenchmark, BadPredictions, first_line

QUERIES, DATABASE = "query_files.csv", "database_files.csv"
OFFICIAL = {"test": Official(1883)}
"""Published number of composed queries."""


@dataclass(frozen=True)
class _Row:
    image: str
    text: str
    instance: str


@dataclass
class _Database:
    """The database images of one instance, in order: image -> the texts that it shows."""

    texts: dict[str, set[str]] = field(default_factory=dict)


class ICIR(Benchmark):
    """mAP of whole rankings, each query in the database of its own instance."""

    name = "icir"
    splits = ("test",)
    protocol = (
        "iCIR (i-CIR): each query searches the database of its own instance; right answers have "
        "its instance and its text; mAP of whole rankings by the trapezoidal rule, over all "
        "queries; mmAP: mean over instances of their mean AP; minmAP: mean over instances of their "
        "lowest AP; the query images are not in the database"
    )
    reference_stays = True
    one_target = False
    headlines = ("mAP",)
    official = OFFICIAL
    download = (
        "download icir_v1.0.0.tar.gz from the page of i-CIR and unpack it: query/, database/, "
        "query_files.csv and database_files.csv"
    )

    @cached_property
    def queries(self) -> list[BenchmarkQuery]:
        return [self._query(number, row) for number, row in enumerate(self._rows(QUERIES))]

    @cached_property
    def _databases(self) -> dict[str, _Database]:
        """Instance -> its database."""
        found: dict[str, _Database] = {}
        for row in self._rows(DATABASE):
            database = found.setdefault(row.instance, _Database())
            database.texts.setdefault(row.image, set()).add(row.text)
        return found

    def gallery(self) -> Iterator[GalleryImage]:
        instances: dict[str, list[str]] = {}
        for instance, database in self._databases.items():
            for image in database.texts:
                instances.setdefault(image, []).append(instance)
        for image, parts in instances.items():
            yield GalleryImage(image, self.picture(image), tuple(parts))

    def query_images(self) -> Iterator[GalleryImage]:
        held = {image for database in self._databases.values() for image in database.texts}
        for id in dict.fromkeys(query.reference for query in self.queries):
            if id not in held:
                yield GalleryImage(id, self.picture(id))

    def picture(self, id: str) -> Path | None:
        path = PurePosixPath(id)
        below = [self.root / path, self.root.joinpath(*path.parts[1:]), self.root.parent / path]
        return first_existing(below)

    def depth(self, query: BenchmarkQuery) -> int:
        """The whole database of its instance."""
        return len(self._databases[str(query.part)].texts)

    def measure(self, ranked: Ranked) -> dict[str, Floats]:
        if ranked.images is None:
            raise BadPredictions(f"{self.name} needs ranked lists of the whole database")
        found = ranked.right_ranks or [
            right_ranks(names, query) for names, query in zip(ranked.images, self.queries)
        ]
        answers = [len(query.relevant) for query in self.queries]
        return {"mAP": metrics.trapezoidal_precision(found, answers)}

    def set_figures(self, measured: Mapping[str, Floats]) -> dict[str, float]:
        """Over the instances: the mean of their means, and of their worst queries."""
        by_instance: dict[str, list[float]] = {}
        for query, value in zip(self.queries, measured["mAP"]):
            by_instance.setdefault(str(query.part), []).append(float(value))
        means = [np.mean(values) for values in by_instance.values()]
        worst = [min(values) for values in by_instance.values()]
        return {"mmAP": float(np.mean(means)), "minmAP": float(np.mean(worst))}

    def read_predictions(self, data: Any) -> Ranked:
        """``{query number: [database image, ...]}``; the queries are numbered from 0."""
        lists = ranked_lists(data, [query.id for query in self.queries])
        for query, found in zip(self.queries, lists):
            ranked_list(found, query.id, self._databases[str(query.part)].texts)
        return Ranked(lists)

    def _listed(self) -> Any:
        return {instance: list(one.texts) for instance, one in self._databases.items()}

    def _query(self, number: int, row: _Row) -> BenchmarkQuery:
        where = f"{QUERIES}, row {number + 1}"
        if row.instance not in self._databases:
            raise BadBenchmark(
                f"{where}: {DATABASE} has no images of instance {row.instance!r}; download both "
                "files again"
            )
        texts = self._databases[row.instance].texts
        right = tuple(image for image, shown in texts.items() if row.text in shown)
        if not right:
            raise BadBenchmark(
                f"{where}: no database image of {row.instance!r} has the text {row.text!r}; "
                "download both files again"
            )
        return BenchmarkQuery(str(number), row.image, (row.text,), right, part=row.instance)

    def _rows(self, name: str) -> list[_Row]:
        path = find_file(self.root, (name, f"annotations/{name}"), self.download)
        try:
            with path.open(newline="", encoding="utf-8-sig") as file:
                rows = [row for row in csv.reader(file, quoting=csv.QUOTE_NONE) if row]
        except (OSError, csv.Error, UnicodeDecodeError) as error:
            raise BadBenchmark(f"{str(path)!r} cannot be read: {first_line(error)}") from error
        for number, row in enumerate(rows, 1):
            if len(row) != 3 or not row[0].strip() or not row[2].strip():
                raise BadBenchmark(
                    f"{str(path)!r}, row {number}: {','.join(row)[:80]!r} is not image path, text, "
                    "instance; the file is damaged or of another version, download it again"
                )
        if not rows:
            raise BadBenchmark(f"{str(path)!r} has no rows; download it again")
        return [_Row(*(cell.strip() for cell in row)) for row in rows]
