"""Figures as tables in the terminal: ours, with the published ones beside them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from rich.table import Table

from fti_qdrant.benchmarks.published import Published, published_for
from fti_qdrant.benchmarks.results import EvaluationMetrics, Figures
from fti_qdrant.calibration.reliability import Reliability
from fti_qdrant.cli.user_text import as_text
from fti_qdrant.gallery.calibration import ComposerCalibration
from fti_qdrant.gallery.chance_map import BEYOND

NOT_COMPARABLE = " (not comparable)"

SHOWN = (0.1, 0.5, 0.9)
"""Chances whose cosines are shown."""


def percent(value: float | None) -> str:
    """A share as published tables print it."""
    return "" if value is None else f"{100 * value:.2f}"


def figures_table(
    benchmark: str, split: str, whole: str, figures: Mapping[str, Figures], comparable: bool
) -> Table:
    """A row for each composer over all queries, then the published rows."""
    measures = list(next(iter(figures.values()))[whole])
    mark = "" if comparable else NOT_COMPARABLE
    table = _table("", measures, f"{benchmark} {split}, {whole}, in percent{mark}")
    for composer, groups in figures.items():
        values = groups[whole]
        table.add_row(as_text(f"{composer}{mark}"), *(percent(values[one]) for one in measures))
    if published := published_for(benchmark):
        table.add_section()
        for row in published:
            numbers = (row.figures.get(one) for one in measures)
            table.add_row(
                as_text(row.label),
                *("" if n is None else f"{n:.2f}" for n in numbers),
                style="dim",
            )
    return table


def aspects_table(
    measure: str,
    whole: str,
    figures: Mapping[str, Figures],
    counts: Mapping[str, int],
    comparable: bool,
    published: Sequence[Published] = (),
) -> Table | None:
    """A row for each group of queries, a column for each composer; None without groups.

    Args:
        published: rows of the benchmark; those with figures by kind are columns too.
    """
    groups = [group for group in next(iter(figures.values())) if group != whole]
    if not groups or measure not in next(iter(figures.values()))[whole]:
        return None
    mark = "" if comparable else NOT_COMPARABLE
    beside = [row for row in published if any(measure in kind for kind in row.by_kind.values())]
    columns = ["queries", *figures, *(row.label for row in beside)]
    table = _table(measure, columns, f"{measure} by kind of query, in percent{mark}")
    for group in groups:
        values = [percent(of[group][measure]) for of in figures.values()]
        for row in beside:
            value = row.by_kind.get(group, {}).get(measure)
            values.append("" if value is None else f"{value:.2f}")
        table.add_row(as_text(group), f"{counts[group]:,}", *values)
    return table


def set_figures_table(
    set_figures: Mapping[str, Mapping[str, float]], comparable: bool
) -> Table | None:
    """Figures that compare the queries of a set; None for a benchmark without them."""
    if not set_figures:
        return None
    mark = "" if comparable else NOT_COMPARABLE
    names = list(next(iter(set_figures.values())))
    table = _table("", names, f"over sets of queries, in percent{mark}")
    for composer, values in set_figures.items():
        table.add_row(as_text(composer), *(percent(values[one]) for one in names))
    return table


def index_loss_table(metrics: EvaluationMetrics) -> Table | None:
    """What the approximate index loses against exact search; None for an exact run."""
    if not metrics.index_loss:
        return None
    measures = list(next(iter(metrics.index_loss.values())))
    mark = "" if metrics.comparable else NOT_COMPARABLE
    table = _table("", [*measures, "neighbors found"], f"exact minus index, in percent{mark}")
    for composer, losses in metrics.index_loss.items():
        found = percent(metrics.neighbors_found[composer])
        table.add_row(as_text(composer), *(percent(losses[one]) for one in measures), found)
    return table


def reliability_table(found: Mapping[str, Reliability]) -> Table | None:
    """How reliable the chances of hits are; None where that was not measured."""
    if not found:
        return None
    columns = ("ECE", "Brier score", "of the base rate", "judged hits", "right")
    table = _table("", columns, "chance that a hit is right, by its score; out of fold, in percent")
    for composer, one in found.items():
        numbers = map(percent, (one.ece, one.brier, one.base_brier))
        share = percent(one.right / one.hits)
        table.add_row(as_text(composer), *numbers, f"{one.hits:,}", share)
    return table


def calibration_table(fitted: Sequence[ComposerCalibration]) -> Table:
    """Fitted chances: how reliable they are, and the cosines of some of them."""
    columns = ("queries", "hits", "right", "ECE", "Brier score", *(f"{one:.0%}" for one in SHOWN))
    title = "chances of hits; ECE and Brier score out of fold, in percent; cosine of each chance"
    table = _table("", columns, title)
    for one in fitted:
        least = [one.chances.least_cosine(chance) for chance in SHOWN]
        table.add_row(
            as_text(f"{one.maker.composer} ({one.maker.kind})"),
            f"{one.queries:,}",
            f"{one.hits:,}",
            f"{one.right:,}",
            percent(one.ece),
            percent(one.brier),
            *(f"{cosine:.3f}" if cosine < BEYOND else "never" for cosine in least),
        )
    return table


def _table(first: str, columns: Sequence[str], title: str) -> Table:
    """Columns of numbers after a first one of names."""
    table = Table(title=as_text(title))
    table.add_column(as_text(first))
    for column in columns:
        table.add_column(as_text(column), justify="right")
    return table
