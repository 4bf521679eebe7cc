"""Two runs over the same queries: differences with paired bootstrap confidence intervals."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from fti_qdrant.benchmarks.base import grouped, stratified_mean
from fti_qdrant.benchmarks.results import METRICS, PER_QUERY, EvaluationMetrics
from fti_qdrant.errors import BadBenchmark, CheckpointError

if TYPE_CHECKING:
    import pyarrow as pa

RESAMPLES, CONFIDENCE, SEED = 10_000, 0.95, 0


@dataclass(frozen=True)
class Difference:
    """One measure of one group of queries, in both runs.

    Attributes:
        low, high: bounds of the interval of ``b - a``.
    """

    group: str
    measure: str
    a: float
    b: float
    low: float
    high: float

    @property
    def significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.low > 0 or self.high < 0


@dataclass(frozen=True)
class ComparedRun:
    """One composer of one run."""

    path: Path
    metrics: EvaluationMetrics
    composer: str

    @classmethod
    def read(cls, path: Path, composer: str | None) -> ComparedRun:
        """The figures of the named composer, by default of the run's first.

        Raises CheckpointError: no such file; BadBenchmark: no such composer, or no measures.
        """
        metrics = EvaluationMetrics.read(path / METRICS if path.is_dir() else path)
        composers = list(metrics.figures)
        if not composers:
            raise BadBenchmark(
                f"{str(path)!r} has no figures: the right answers of {metrics.benchmark} "
                f"{metrics.split} are not public"
            )
        if composer is not None and composer not in composers:
            raise BadBenchmark(
                f"{str(path)!r} has no composer {composer!r}; it has {', '.join(composers)}"
            )
        return cls(path, metrics, composer or composers[0])

    def rows(self) -> pa.Table:
        """This run's rows of per_query.parquet. Raises CheckpointError."""
        from pyarrow import ArrowInvalid, parquet

        folder = self.path if self.path.is_dir() else self.path.parent
        try:
            rows = parquet.read_table(
                folder / PER_QUERY,
                filters=[("composer", "=", self.composer), ("search", "=", self.metrics.search)],
            )
        except (OSError, ArrowInvalid, KeyError) as error:
            raise CheckpointError(
                f"{str(folder / PER_QUERY)!r}, which belongs next to {METRICS}, cannot be read: "
                f"{error}"
            ) from error
        measures = next(iter(self.metrics.figures[self.composer].values()))
        missing = [name for name in ("aspects", *measures) if name not in rows.column_names]
        if missing or rows.num_rows != self.metrics.queries:
            raise CheckpointError(
                f"{str(folder / PER_QUERY)!r} is not of the same run as {METRICS} next to it: "
                f"{rows.num_rows} of {self.metrics.queries} queries, "
                f"missing columns: {', '.join(missing) or 'none'}"
            )
        return rows


def compare(a: ComparedRun, b: ComparedRun, resamples: int = RESAMPLES) -> list[Difference]:
    """Differences ``b - a`` of every measure, over all queries and each group.

    Queries are drawn with replacement, and both runs' values of a query are drawn together. For
    FashionIQ's average they are drawn within each category. Percentile intervals by scipy.

    Raises BadBenchmark where the runs did not answer the same queries.
    """
    for field in ("benchmark", "split", "annotations", "gallery_images"):
        one, other = getattr(a.metrics, field), getattr(b.metrics, field)
        if one != other:
            raise BadBenchmark(
                f"the runs differ in their {field}: {one!r} in {str(a.path)!r}, {other!r} in "
                f"{str(b.path)!r}; only runs over the same queries can be compared"
            )
    rows_a, rows_b = a.rows(), b.rows()
    aspects = {name for names in rows_a["aspects"].to_pylist() for name in names}
    unknown = set(a.metrics.figures[a.composer]) - aspects - {a.metrics.whole}
    if unknown:
        raise CheckpointError(f"{str(a.path)!r}: no query has the aspect {sorted(unknown)[0]!r}")
    if rows_a["query"].to_pylist() != rows_b["query"].to_pylist():
        raise BadBenchmark(f"{str(a.path)!r} and {str(b.path)!r} have different queries")
    return list(_differences(a, b, rows_a, rows_b, resamples))


def _differences(
    a: ComparedRun, b: ComparedRun, rows_a: pa.Table, rows_b: pa.Table, resamples: int
) -> Iterator[Difference]:
    metrics, other = a.metrics, b.metrics.figures[b.composer]
    groups = grouped(rows_a["aspects"].to_pylist(), metrics.whole, metrics.averaged_over)
    for group, figures in metrics.figures[a.composer].items():
        for measure in figures:
            if measure not in other.get(group, {}):
                continue
            before, after = rows_a[measure].to_numpy(), rows_b[measure].to_numpy()
            strata = groups[group]
            low, high = interval([(after - before)[rows] for rows in strata], resamples)
            means = stratified_mean(before, strata), stratified_mean(after, strata)
            yield Difference(group, measure, *means, low, high)


def interval(changes: list[np.ndarray], resamples: int) -> tuple[float, float]:
    """Confidence interval of the mean over strata of the mean change."""
    from scipy.stats import bootstrap

    if all((one == one[0]).all() for one in changes):
        mean = float(np.mean([one[0] for one in changes]))
        return mean, mean

    def statistic(*strata: np.ndarray, axis: int = -1) -> np.ndarray:
        return np.mean([one.mean(axis=axis) for one in strata], axis=0)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = bootstrap(
            tuple(changes),
            statistic,
            n_resamples=resamples,
            batch=256,
            confidence_level=CONFIDENCE,
            method="percentile",
            rng=SEED,
        )
    return float(found.confidence_interval.low), float(found.confidence_interval.high)
