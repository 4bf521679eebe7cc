"""PinPoint: several right answers, marked hard negatives, paraphrases, one or two images a query.

Written from the published description and evaluation code of PinPoint (Mahadev et al., CVPR 2026,
arXiv 2603.04598, repository pinterest/pinpoint-dataset, data CC BY 4.0); the data was not at hand.

Layout: ``pinpoint_licensed.parquet`` (or, of the first release, ``pinpoint_metadata.parquet``) and
``index_signatures.txt``, one image signature a line. The repository names images by signature and
has no folder of them; here they are in ``images/``, as ``images/SIGNATURE.jpg`` or
``images/ab/cd/ef/SIGNATURE.jpg``, where ab, cd and ef are the first letters of the signature.

Protocol: the whole index is searched, nothing is left out. With ``positive_candidates`` and
``negative_candidates`` of length P and N, and the hits among the first K: precision hits/K; recall
hits/P; AP@K precision summed over hits, divided by min(K, P); negative recall: negatives among the
first K, divided by min(K, N); AP@K again with the negatives taken out of the list. Lengths count
repeated entries, as the published code does. Queries with the same images are paraphrases of each
other: the mean over such sets of the range, and of the standard deviation, of P@10.

The published baseline averages the image vectors of a query with two images; here they are
composed as the composer does it (``image`` averages). As there, 50 images are retrieved.

Not confirmed, as it needs the data: whether the reference images are all in the index; those that
are not are read from ``images/`` as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, Field, TypeAdapter, ValidationError

from fti_qdrant.benchmarks import metrics
from fti_qdrant.benchmarks.annotations import find_file
from fti_qdrant.benchmarks.base import RECALL_AT, Benchmark, first_existing
from fti_qdrant.benchmarks.metrics import Floats
from fti_qdrant.benchmarks.predictions import ranked_lists
from fti_qdrant.benchmarks.records import BenchmarkQuery, GalleryImage, Official, Ranked
from fti_qdrant.errors import BadBenchmark, BadPredictions, first_line
from fti_qdrant.validation_reason import reason

QUERIES = ("pinpoint_licensed.parquet", "pinpoint_metadata.parquet")
INDEX = "index_signatures.txt"
IMAGE_FOLDERS = ("images", ".")
ITEMS = "retrieved_items"
ONE, SEVERAL = "one image", "two images"
OFFICIAL = {"test": Official(7635)}
"""Published number of queries of the licensed release."""

SENSITIVE_TO = "P@10"
"""The measure whose range over paraphrases is reported."""


class _Row(BaseModel):
    query_id: str | int
    query_image_signature: str = Field(min_length=1)
    query_image_signature2: str | None = None
    instruction: str
    positive_candidates: list[str] | None = None
    negative_candidates: list[str] | None = None
    query_category: str | None = None

    @property
    def id(self) -> str:
        """As the published code spells it: five digits."""
        return str(self.query_id).replace("query_", "").zfill(5)

    @property
    def second(self) -> tuple[str, ...]:
        """The second image; the files write its absence in several ways."""
        name = self.query_image_signature2
        return () if name in (None, "", "None", "nan") else (str(name),)


class PinPoint(Benchmark):
    """mAP@K over several right answers, how many hard negatives come up, and paraphrases."""

    name = "pinpoint"
    splits = ("test",)
    protocol = (
        "PinPoint: gallery = index_signatures.txt; the references stay; mAP, P and recall "
        "@1,5,10,50; NegRecall: recall of the marked negatives; noNeg: with the negatives taken "
        "out of the lists; P@10 range and P@10 std: over queries with the same images, means over "
        "those sets"
    )
    reference_stays = True
    one_target = False
    headlines = ("mAP@10", "NegRecall@10")
    official = OFFICIAL
    download = (
        "download pinpoint_licensed.parquet and index_signatures.txt from the repository of "
        "PinPoint, and the image of each signature from the address that its README gives into "
        "images/SIGNATURE.jpg"
    )

    @cached_property
    def queries(self) -> list[BenchmarkQuery]:
        return [self._query(row) for row in self._rows]

    @cached_property
    def _rows(self) -> list[_Row]:
        from pyarrow import ArrowException, parquet

        path = find_file(self.root, QUERIES, self.download)
        try:
            there = parquet.read_schema(path).names
            columns = [name for name in there if name in _Row.model_fields]
            content = parquet.read_table(path, columns=columns).to_pylist()
            rows = TypeAdapter(list[_Row]).validate_python(content)
        except (OSError, ArrowException) as error:
            raise BadBenchmark(f"{str(path)!r} cannot be read: {first_line(error)}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = " ".join(map(str, first["loc"]))
            raise BadBenchmark(
                f"{str(path)!r}, query number {where}: it {reason(first)}; the file is of another "
                "version, download it again"
            ) from error
        ids = [row.id for row in rows]
        if not rows or len(set(ids)) < len(ids):
            fault = "has a query_id twice" if rows else "has no queries"
            raise BadBenchmark(f"{str(path)!r} {fault}; download it again")
        return rows

    @cached_property
    def _index(self) -> dict[str, None]:
        path = find_file(self.root, (INDEX,), self.download)
        try:
            lines = path.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise BadBenchmark(f"{str(path)!r} cannot be read: {first_line(error)}") from error
        return dict.fromkeys(line.strip() for line in lines if line.strip())

    def gallery(self) -> Iterator[GalleryImage]:
        for signature in self._index:
            yield GalleryImage(signature, self.picture(signature))

    def query_images(self) -> Iterator[GalleryImage]:
        for signature in dict.fromkeys(id for query in self.queries for id in query.references):
            if signature not in self._index:
                yield GalleryImage(signature, self.picture(signature))

    def picture(self, id: str) -> Path | None:
        file = f"{id}.jpg"
        nested = Path(id[:2], id[2:4], id[4:6], file)
        folders = [self.root / folder for folder in IMAGE_FOLDERS]
        return first_existing([folder / name for folder in folders for name in (file, nested)])

    @property
    def has_truth(self) -> bool:
        """A query without right answers counts as not found, as in the published code."""
        return True

    def measure(self, ranked: Ranked) -> dict[str, Floats]:
        if ranked.images is None:
            raise BadPredictions(f"{self.name} needs ranked lists of the whole gallery")
        positives = [row.positive_candidates or [] for row in self._rows]
        negatives = [row.negative_candidates or [] for row in self._rows]
        without = [
            [id for id in found if id not in wrong]
            for found, wrong in zip(ranked.images, map(set, negatives))
        ]
        right, wrong = np.array([*map(len, positives)]), np.array([*map(len, negatives)])
        found = metrics.members(ranked.images, [*map(set, positives)])
        kept = metrics.members(without, [*map(set, positives)])
        bad = metrics.members(ranked.images, [*map(set, negatives)])
        measured: dict[str, Floats] = {}
        for k in RECALL_AT:
            shown = {
                f"mAP@{k}": metrics.average_precision(found, np.maximum(right, 1), k),
                f"mAP@{k} noNeg": metrics.average_precision(kept, np.maximum(right, 1), k),
                f"P@{k}": metrics.precision(found, k),
                f"recall@{k}": found[:, :k].sum(axis=1) / np.maximum(right, 1),
                f"NegRecall@{k}": bad[:, :k].sum(axis=1) / np.clip(wrong, 1, k),
            }
            measured |= shown
        return measured

    def set_figures(self, measured: Mapping[str, Floats]) -> dict[str, float]:
        """How far P@10 differs between the paraphrases of one query, averaged over the queries."""
        sets: dict[tuple[str, ...], list[float]] = {}
        for query, value in zip(self.queries, measured[SENSITIVE_TO]):
            sets.setdefault(query.references, []).append(float(value))
        several = [values for values in sets.values() if len(values) > 1]
        if not several:
            return {}
        return {
            f"{SENSITIVE_TO} range": float(np.mean([max(one) - min(one) for one in several])),
            f"{SENSITIVE_TO} std": float(np.mean([np.std(one) for one in several])),
        }

    def read_predictions(self, data: Any) -> Ranked:
        """``{"00001": {"retrieved_items": [signature, ...]}}``, or the list alone."""
        if isinstance(data, Mapping):
            data = {
                query: found[ITEMS] if isinstance(found, Mapping) and ITEMS in found else found
                for query, found in data.items()
            }
        return Ranked(ranked_lists(data, [query.id for query in self.queries], self._index))

    def predictions(self, ranked: Ranked) -> dict[str, Any]:
        """The file that the published evaluation code takes."""
        lists = zip(self.queries, ranked.images or [])
        return {"pinpoint.json": {query.id: {ITEMS: found} for query, found in lists}}

    def _listed(self) -> Any:
        return list(self._index)

    def _query(self, row: _Row) -> BenchmarkQuery:
        category = (row.query_category,) if row.query_category else ()
        return BenchmarkQuery(
            id=row.id,
            reference=row.query_image_signature,
            texts=(row.instruction,),
            relevant=tuple(dict.fromkeys(row.positive_candidates or [])),
            aspects=(*category, SEVERAL if row.second else ONE),
            more_references=row.second,
            wrong=tuple(dict.fromkeys(row.negative_candidates or [])),
        )
