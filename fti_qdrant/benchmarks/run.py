"""One run: queries ranked in batches that survive a kill, then measured and written to files."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ValidationError

from fti_qdrant.atomic_files import replacing
from fti_qdrant.benchmarks import rankings
from fti_qdrant.benchmarks.base import summarize
from fti_qdrant.benchmarks.judged_run import reliabilities
from fti_qdrant.benchmarks.rank import Ranker
from fti_qdrant.benchmarks.rankings import EXACT, INDEX, RankingKey
from fti_qdrant.benchmarks.records import DEPTH
from fti_qdrant.benchmarks.results import METRICS, PER_QUERY, EvaluationMetrics, Figures, write_json
from fti_qdrant.composers.defaults import model_options
from fti_qdrant.errors import FtiError, OutputUnavailable

if TYPE_CHECKING:
    import pyarrow as pa

IDENTITY, RANKINGS = "run.json", "rankings"
BATCH = 64
"""Queries that are composed and searched together, and stored in one file."""

PACKAGES = ("fti-qdrant", "torch", "open_clip_torch", "qdrant-client", "qdrant-edge-py", "numpy")


class RunIdentity(BaseModel):
    """What rankings depend on; rankings of different identities are never mixed."""

    benchmark: str
    split: str
    annotations: str
    model: dict[str, Any]
    precision: str
    inverter: str | None
    vocabulary: str | None = None
    composer_options: dict[str, dict[str, Any]] = {}
    """That the model brings with it."""
    gallery: str
    allow_missing: bool
    depth: int = DEPTH
    batch: int = BATCH

    @classmethod
    def of(cls, ranker: Ranker) -> RunIdentity:
        inverter = ranker.composer.inverter
        return cls(
            benchmark=ranker.benchmark.name,
            split=ranker.benchmark.split,
            annotations=ranker.benchmark.digest,
            model=ranker.composer.backbone.fingerprint.as_dict(),
            precision=ranker.composer.backbone.precision,
            inverter=inverter.weights_hash if inverter is not None else None,
            vocabulary=ranker.composer.backbone.vocabulary_digest,
            composer_options=model_options(ranker.composer.backbone.name),
            gallery=ranker.contents.digest,
            allow_missing=ranker.allow_missing,
        )


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        per_query: every ranking with its query and measures, as in ``per_query.parquet``.
        files: what was written.
    """

    metrics: EvaluationMetrics
    per_query: pa.Table
    files: list[Path]


def rank_all(
    ranker: Ranker, out: Path, advance: Callable[[int], None] = lambda count: None
) -> None:
    """Ranks what an earlier run with the same identity has not ranked yet.

    A later run may add a composer or the index; existing rankings are kept.

    Args:
        advance: called with the number of queries that were finished since the last call.

    Raises OutputUnavailable: ``out`` holds another run's rankings, or cannot be written.
    """
    from pyarrow import Table, parquet

    queries = ranker.benchmark.queries
    with writing(out):
        _claim(out, RunIdentity.of(ranker))
        for start in range(0, len(queries), BATCH):
            batch = queries[start : start + BATCH]
            files = {key: _rankings_file(out, key, start) for key in ranker.keys}
            todo = [key for key, path in files.items() if not _is_readable(path)]
            for key, rows in ranker.rank(batch, todo).items():
                with replacing(files[key]) as part:
                    parquet.write_table(Table.from_pylist(rows, rankings.schema()), part)
            advance(len(batch))


def finish_run(ranker: Ranker, out: Path, notes: list[str], command: str) -> FinishedRun:
    """Measures what was ranked; writes metrics.json, per_query.parquet and ranked-list files.

    Args:
        notes: why figures are not comparable; empty where they are.
        command: the command line, for metrics.json.

    Raises OutputUnavailable.
    """
    from pyarrow import concat_tables, parquet

    benchmark = ranker.benchmark
    starts = range(0, len(benchmark.queries), BATCH)
    files = [_rankings_file(out, key, start) for key in ranker.keys for start in starts]
    # batches of an earlier version may lack a column
    stored = concat_tables(map(parquet.read_table, files), promote_options="default")
    tables = rankings.by_key(stored, benchmark)
    lost = rankings.unanswered(next(iter(tables.values())))
    if lost:
        notes = [*notes, f"{lost} queries have no readable reference image and count as not found"]
    values = {
        key: benchmark.measure(rankings.ranked(table, benchmark)) if benchmark.has_truth else {}
        for key, table in tables.items()
    }
    groups = benchmark.groups()
    figures = {key: summarize(measured, groups) for key, measured in values.items() if measured}
    sets = {key: benchmark.set_figures(measured) for key, measured in values.items() if measured}
    described = {
        key: rankings.described(table, benchmark, values[key]) for key, table in tables.items()
    }
    metrics = _metrics(ranker, tables, figures, sets, notes, command)
    if benchmark.has_truth:
        judged = {one: described[one, metrics.search] for one in ranker.composers}
        metrics.calibration, metrics.not_calibrated = reliabilities(judged)
    with writing(out):
        marks = {"comparable": str(not notes), "notes": "; ".join(notes)}
        per_query = concat_tables(described.values()).replace_schema_metadata(marks)
        with replacing(out / PER_QUERY) as part:
            parquet.write_table(per_query, part)
        write_json(out / METRICS, metrics.model_dump(mode="json"))
        lists = _write_lists(ranker, tables, out, comparable=not notes)
    return FinishedRun(metrics, per_query, [out / METRICS, out / PER_QUERY, *lists])


def _metrics(
    ranker: Ranker,
    tables: dict[RankingKey, pa.Table],
    figures: dict[RankingKey, Figures],
    sets: dict[RankingKey, dict[str, float]],
    notes: list[str],
    command: str,
) -> EvaluationMetrics:
    search: Literal["exact", "index"] = "index" if INDEX in ranker.searches else "exact"
    benchmark, inverter = ranker.benchmark, ranker.composer.inverter
    whole = benchmark.whole
    pairs = [(one, (one, EXACT), (one, INDEX)) for one in ranker.composers if search == INDEX]
    losses = {
        one: {
            name: value - figures[index][whole][name]
            for name, value in figures[exact][whole].items()
        }
        for one, exact, index in pairs
        if exact in figures
    }
    return EvaluationMetrics(
        benchmark=benchmark.name,
        split=benchmark.split,
        protocol=benchmark.protocol,
        whole=benchmark.whole,
        averaged_over=list(benchmark.averaged_over),
        comparable=not notes,
        notes=notes,
        search=search,
        queries=len(benchmark.queries),
        annotations=benchmark.digest,
        gallery=ranker.gallery.name,
        gallery_images=ranker.gallery.count(),
        gallery_digest=ranker.contents.digest,
        model=ranker.composer.backbone.fingerprint.as_dict(),
        precision=ranker.composer.backbone.precision,
        device=ranker.composer.backbone.device.type,
        inverter=inverter.weights_hash if inverter is not None else None,
        figures={one: figures[one, search] for one in ranker.composers if (one, search) in figures},
        set_figures={one: sets[one, search] for one in ranker.composers if sets.get((one, search))},
        composer_options={
            one: ranker.composer.options(one).model_dump(mode="json") for one in ranker.composers
        },
        vocabulary=ranker.composer.backbone.vocabulary_digest,
        index_loss=losses,
        neighbors_found={
            one: rankings.neighbors_found(tables[exact], tables[index])
            for one, exact, index in pairs
        },
        versions=dict(_versions()),
        command=command,
        made=datetime.now(timezone.utc),
    )


def _write_lists(
    ranker: Ranker, tables: dict[RankingKey, pa.Table], out: Path, comparable: bool
) -> list[Path]:
    """Writes the ranked lists of every composer in the format that the benchmark's server takes."""
    search = ranker.searches[-1]
    written = []
    for composer in ranker.composers:
        folder = out / ("submission" if comparable else "submission-not-comparable") / composer
        ranked = rankings.ranked(tables[composer, search], ranker.benchmark)
        for name, content in ranker.benchmark.predictions(ranked).items():
            path = folder / (name if comparable else f"not-comparable-{name}")
            write_json(path, content)
            written.append(path)
    return written


def _rankings_file(out: Path, key: RankingKey, start: int) -> Path:
    """The rankings of one batch by one composer and search."""
    return out / RANKINGS / f"{'-'.join(key)}-{start:08d}.parquet"


def _is_readable(path: Path) -> bool:
    """Whether a batch was ranked, and its file is not damaged."""
    from pyarrow import ArrowInvalid, parquet

    try:
        parquet.read_metadata(path)
    except (OSError, ArrowInvalid):
        return False
    return True


def _claim(out: Path, identity: RunIdentity) -> None:
    """Marks ``out`` as this run's. Raises OutputUnavailable where it is another run's."""
    (out / RANKINGS).mkdir(parents=True, exist_ok=True)
    path = out / IDENTITY
    if not path.exists():
        shutil.rmtree(out / RANKINGS)
        (out / RANKINGS).mkdir()
        write_json(path, identity.model_dump())
        return
    try:
        before = RunIdentity.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise OutputUnavailable(f"{str(path)!r} is damaged; delete {str(out)!r}") from error
    if before != identity:
        old, new = before.model_dump(), identity.model_dump()
        field = next(name for name in new if old[name] != new[name])
        raise OutputUnavailable(
            f"{str(out)!r} holds a run with another {field} ({old[field]}, now {new[field]}); "
            "choose another --out, or delete this folder"
        )


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turns an OSError into OutputUnavailable."""
    try:
        yield
    except FtiError:  # some are an OSError too
        raise
    except OSError as error:
        raise OutputUnavailable(f"{str(out)!r} cannot be written: {error}") from error


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
