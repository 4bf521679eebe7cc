"""The hits of a run, judged by its benchmark: what chances are fitted on, and checked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fti_qdrant.benchmarks.results import METRICS, PER_QUERY, EvaluationMetrics
from fti_qdrant.calibration.fit import Source, fit_calibration, measured
from fti_qdrant.calibration.judged_hits import DEPTH, JudgedHits, JudgedQueryHits
from fti_qdrant.calibration.reliability import Reliability
from fti_qdrant.composers.registry import find_composer
from fti_qdrant.errors import BadBenchmark, BadCalibration, CheckpointError
from fti_qdrant.gallery.calibration import ComposerCalibration, QueryMaker
from fti_qdrant.model.fingerprint import Fingerprint

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = ("ids", "scores", "relevant", "reference", "more_references")


@dataclass(frozen=True)
class FittedRun:
    """The maps of a run.

    Attributes:
        missing: composer -> why there was too little to calibrate it.
    """

    fitted: list[ComposerCalibration]
    missing: dict[str, str]


def judged(rows: pa.Table, depth: int = DEPTH) -> JudgedHits:
    """The first hits of each query, its references left out, as searches leave them out.

    Queries with the same reference are one group. Queries without right answers are left out, as
    are those for which nothing was ranked.

    Args:
        rows: of per_query.parquet, of one composer and search.
    """
    lines = zip(*(rows[name].to_pylist() for name in COLUMNS))
    return JudgedHits.of(
        _of_query(ids, scores, set(relevant), {reference, *(more or ())}, reference, depth)
        for ids, scores, relevant, reference, more in lines
        if ids and relevant
    )


def _of_query(
    ids: Sequence[str],
    scores: Sequence[float],
    right: set[str],
    references: set[str],
    group: str,
    depth: int,
) -> JudgedQueryHits:
    hits = [pair for pair in zip(ids, scores) if pair[0] not in references][:depth]
    return JudgedQueryHits(group, [score for _, score in hits], [id in right for id, _ in hits])


def reliabilities(
    tables: Mapping[str, pa.Table],
) -> tuple[dict[str, Reliability], dict[str, str]]:
    """For each composer how reliable its chances are, out of fold; or why that was not measured."""
    found, missing = {}, {}
    for composer, rows in tables.items():
        try:
            found[composer] = measured(judged(rows))
        except BadCalibration as error:
            missing[composer] = str(error)
    return found, missing


def fit_run(
    run: Path, composers: Sequence[str] | None = None, depth: int = DEPTH
) -> tuple[EvaluationMetrics, FittedRun]:
    """Fits the chances of a run's composers on its rankings.

    Args:
        run: its folder, or its metrics.json.
        composers: None for all.
        depth: how many hits of each query are judged, at most as many as a run stores.

    Raises:
        CheckpointError: no such files, or of an earlier version.
        BadBenchmark: no such composer, or the right answers are not public.
        BadCalibration: too little was judged for every composer.
    """
    folder = run if run.is_dir() else run.parent
    metrics = EvaluationMetrics.read(folder / METRICS if run.is_dir() else run)
    names = _chosen(metrics, composers, folder)
    rows = _rows(folder, metrics.search)
    fitted, missing = [], {}
    for name in names:
        table = rows.filter(_is(rows, name))
        more = table["more_references"].to_pylist()
        most = 1 + max((len(one or ()) for one in more), default=0)
        source = Source(f"{metrics.benchmark} {metrics.split}", depth, most)
        try:
            fitted.append(fit_calibration(judged(table, depth), _maker(metrics, name), source))
        except BadCalibration as error:
            missing[name] = str(error)
    if not fitted:
        reasons = "; ".join(f"{name}: {why}" for name, why in missing.items())
        raise BadCalibration(f"{str(folder)!r}: {reasons}")
    return metrics, FittedRun(fitted, missing)


def _chosen(metrics: EvaluationMetrics, composers: Sequence[str] | None, folder: Path) -> list[str]:
    there = list(metrics.figures)
    if not there:
        raise BadBenchmark(
            f"{str(folder)!r} has no figures: the right answers of {metrics.benchmark} "
            f"{metrics.split} are not public"
        )
    names = there if composers is None else list(dict.fromkeys(composers))
    for name in names:
        if name not in there:
            raise BadBenchmark(
                f"{str(folder)!r} has no composer {name!r}; it has {', '.join(there)}"
            )
    if metrics.composer_options is None or not metrics.composer_options.keys() >= {*names}:
        raise CheckpointError(
            f"{str(folder / METRICS)!r} is of an earlier version, which did not store the options "
            "of composers; run the same fti-eval run again, its rankings are kept"
        )
    return names


def _maker(metrics: EvaluationMetrics, name: str) -> QueryMaker:
    """Queries of benchmarks have an image and a text, also where a composer reads one of them."""
    try:
        fingerprint = Fingerprint(**metrics.model)
    except TypeError as error:
        raise CheckpointError(f"the {METRICS} does not say which model it is of: {error}") from None
    return QueryMaker(
        composer=name,
        kind="image and text",
        options=(metrics.composer_options or {})[name],
        fingerprint=fingerprint,
        inverter=metrics.inverter if find_composer(name).needs_inverter else None,
        vocabulary=metrics.vocabulary,
    )


def _rows(folder: Path, search: str) -> pa.Table:
    from pyarrow import ArrowInvalid, parquet

    path = folder / PER_QUERY
    try:
        return parquet.read_table(
            path, columns=[*COLUMNS, "composer"], filters=[("search", "=", search)]
        )
    except (OSError, ArrowInvalid, KeyError) as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {error}") from error


def _is(rows: pa.Table, name: str) -> Any:
    from pyarrow import compute

    return compute.equal(rows["composer"], name)
