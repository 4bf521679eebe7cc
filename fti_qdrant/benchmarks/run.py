"""One run: queries ranked in batches that survive a kill, then measured and written down."""

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

from fti_qdrant.benchmarks import rankings
from fti_qdrant.benchmarks.base import DEPTH, summarize
from fti_qdrant.benchmarks.rank import Ranker
from fti_qdrant.benchmarks.rankings import EXACT, INDEX
from fti_qdrant.benchmarks.results import METRICS, PER_QUERY, Figures, Metrics, write_json
from fti_qdrant.errors import OutputUnavailable

if TYPE_CHECKING:
    import pyarrow as pa

IDENTITY, PARTS = "run.json", "rankings"
BATCH = 64
"""Queries that are composed and searched together."""

PACKAGES = ("fti-qdrant", "torch", "open_clip_torch", "qdrant-client", "qdrant-edge-py", "numpy")


class RunIdentity(BaseModel):
    """What rankings depend on; those of another identity are never mixed in."""

    benchmark: str
    split: str
    annotations: str
    model: dict[str, Any]
    precision: str
    inverter: str | None
    gallery: str
    allow_missing: bool
    depth: int = DEPTH
    batch: int = BATCH

    @staticmethod
    def of(ranker: Ranker) -> RunIdentity:
        inverter = ranker.composer.inverter
        return RunIdentity(
            benchmark=ranker.benchmark.name,
            split=ranker.benchmark.split,
            annotations=ranker.benchmark.digest,
            model=ranker.composer.backbone.fingerprint.as_dict(),
            precision=ranker.composer.backbone.precision,
            inverter=inverter.weights_hash if inverter is not None else None,
            gallery=ranker.contents.digest,
            allow_missing=ranker.allow_missing,
        )


@dataclass(frozen=True)
class Measured:
    """A finished run.

    Attributes:
        per_query: every ranking, with its query and measures; what ``per_query.parquet`` holds.
    """

    metrics: Metrics
    per_query: pa.Table
    files: list[Path]


def rank_all(
    ranker: Ranker, out: Path, advance: Callable[[int], None] = lambda count: None
) -> None:
    """Ranks what an earlier run with the same identity has not ranked yet.

    Another composer, or the index, may join later; what was ranked is not ranked again.

    Args:
        advance: told how many more queries are done.

    Raises OutputUnavailable: ``out`` holds another run's rankings, or cannot be written.
    """
    from pyarrow import Table, parquet

    queries = ranker.benchmark.queries
    with writing(out):
        _claim(out, RunIdentity.of(ranker))
        for start in range(0, len(queries), BATCH):
            batch = queries[start : start + BATCH]
            parts = {run: _part(out, run, start) for run in ranker.runs}
            todo = [run for run, path in parts.items() if not _is_whole(path)]
            for run, rows in ranker.rank(batch, todo).items():
                fresh = parts[run].with_suffix(".part")
                parquet.write_table(Table.from_pylist(rows, rankings.schema()), fresh)
                fresh.replace(parts[run])
            advance(len(batch))


def conclude(ranker: Ranker, out: Path, notes: list[str], command: str) -> Measured:
    """Measures what was ranked; writes metrics.json, per_query.parquet and ranked-list files.

    Args:
        notes: why figures are not comparable; empty where they are.
    """
    from pyarrow import concat_tables, parquet

    benchmark = ranker.benchmark
    starts = range(0, len(benchmark.queries), BATCH)
    parts = [parquet.read_table(_part(out, run, start)) for run in ranker.runs for start in starts]
    tables = rankings.by_run(concat_tables(parts), benchmark)
    lost = rankings.unanswered(next(iter(tables.values())))
    if lost:
        notes = [*notes, f"{lost} queries have no readable reference, and count as missed"]
    values = {
        run: benchmark.measure(rankings.ranked(table, benchmark)) if benchmark.has_truth else {}
        for run, table in tables.items()
    }
    figures = {
        run: summarize(measured, benchmark.groups()) for run, measured in values.items() if measured
    }
    measured = _metrics(ranker, tables, figures, notes, command)
    described = [rankings.described(table, benchmark, values[run]) for run, table in tables.items()]
    with writing(out):
        marks = {"comparable": str(not notes), "notes": "; ".join(notes)}
        per_query = concat_tables(described).replace_schema_metadata(marks)
        parquet.write_table(per_query, out / PER_QUERY)
        write_json(out / METRICS, measured.model_dump(mode="json"))
        files = _write_lists(ranker, tables, out, comparable=not notes)
    return Measured(measured, per_query, [out / METRICS, out / PER_QUERY, *files])


def _metrics(
    ranker: Ranker,
    tables: dict[rankings.Run, pa.Table],
    figures: dict[rankings.Run, Figures],
    notes: list[str],
    command: str,
) -> Metrics:
    search: Literal["exact", "index"] = "index" if INDEX in ranker.searches else "exact"
    benchmark, inverter = ranker.benchmark, ranker.composer.inverter
    whole = benchmark.whole
    pairs = [(one, (one, EXACT), (one, INDEX)) for one in ranker.methods if search == INDEX]
    losses = {
        one: {
            name: value - figures[index][whole][name]
            for name, value in figures[exact][whole].items()
        }
        for one, exact, index in pairs
        if exact in figures
    }
    return Metrics(
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
        figures={one: figures[one, search] for one in ranker.methods if (one, search) in figures},
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
    ranker: Ranker, tables: dict[rankings.Run, pa.Table], out: Path, comparable: bool
) -> list[Path]:
    """The ranked lists of every composer, in the form that the benchmark's server takes."""
    search = ranker.searches[-1]
    written = []
    for method in ranker.methods:
        folder = out / ("submission" if comparable else "submission-not-comparable") / method
        folder.mkdir(parents=True, exist_ok=True)
        ranked = rankings.ranked(tables[method, search], ranker.benchmark)
        for name, content in ranker.benchmark.predictions(ranked).items():
            path = folder / (name if comparable else f"not-comparable-{name}")
            write_json(path, content)
            written.append(path)
    return written


def _part(out: Path, run: rankings.Run, start: int) -> Path:
    """The rankings of one batch by one composer and search."""
    return out / PARTS / f"{'-'.join(run)}-{start:08d}.parquet"


def _is_whole(path: Path) -> bool:
    """Whether a batch was ranked, and a failing disk has left it readable."""
    from pyarrow import ArrowInvalid, parquet

    try:
        parquet.read_metadata(path)
    except (OSError, ArrowInvalid):
        return False
    return True


def _claim(out: Path, identity: RunIdentity) -> None:
    """Makes ``out`` this run's; raises OutputUnavailable where it is another's."""
    (out / PARTS).mkdir(parents=True, exist_ok=True)
    path = out / IDENTITY
    if not path.exists():
        shutil.rmtree(out / PARTS)
        (out / PARTS).mkdir()
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
            "choose another --out, or delete it"
        )


@contextmanager
def writing(out: Path) -> Iterator[None]:
    """Turns what the disk refuses into OutputUnavailable."""
    try:
        yield
    except OutputUnavailable:
        raise
    except OSError as error:
        raise OutputUnavailable(f"{str(out)!r} cannot be written: {error}") from error


def _versions() -> Iterator[tuple[str, str]]:
    for package in PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
