"""The HTML report of a benchmark run: figures, recall curves, and example queries."""

from __future__ import annotations

import io
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from fti_qdrant.benchmarks.base import Benchmark
from fti_qdrant.benchmarks.published import published_for
from fti_qdrant.benchmarks.records import DEPTH
from fti_qdrant.benchmarks.run import FinishedRun
from fti_qdrant.calibration.judged_hits import DEPTH as JUDGED_DEPTH
from fti_qdrant.calibration.reliability import Reliability
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import find_composer
from fti_qdrant.errors import BadImage
from fti_qdrant.images import open_image
from fti_qdrant.model.explain import Explainer, NearestWords
from fti_qdrant.report.row import PageImage, PageRow, thumbnail, write_page

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HITS = 10
"""Results shown for each query."""

OF_EACH = 4
"""For each aspect, this many of the best queries, of the worst, and of random ones are shown."""

MAX_ASPECTS = 12
DIAGRAMS_IN_A_ROW = 4
BEST, WORST, RANDOM = "best", "worst", "random"

Line = dict[str, Any]
"""One row of per_query.parquet."""


def write_report(
    path: Path, benchmark: Benchmark, composer: Composer, finished: FinishedRun
) -> None:
    """Writes the page. Raises OutputUnavailable where it cannot be written."""
    metrics = finished.metrics
    lines = finished.per_query.to_pylist()
    shown_composer = lines[0]["composer"]
    chosen = [
        line
        for line in lines
        if line["composer"] == shown_composer and line["search"] == metrics.search
    ]
    sample = _sample(chosen, benchmark.has_truth)
    explain = _Explain(benchmark, composer, shown_composer)
    aspects = sorted({aspect for line, _ in sample for aspect in line["aspects"]})
    write_page(
        path,
        "evaluation.html.j2",
        heading=f"{metrics.benchmark} {metrics.split}",
        metrics=metrics,
        measures=_measures(metrics.figures, metrics.whole),
        published=published_for(metrics.benchmark),
        headlines=benchmark.headlines,
        curve=recall_curves(lines, metrics.search) if benchmark.has_truth else None,
        judged_depth=JUDGED_DEPTH,
        reliability=reliability_diagram(metrics.calibration) if metrics.calibration else None,
        kinds=[kind for kind in (BEST, WORST, RANDOM) if any(kind in kinds for _, kinds in sample)],
        aspects=aspects if len(aspects) > 1 else [],
        composer=shown_composer,
        rows=[_page_row(benchmark, line, kinds, explain(line)) for line, kinds in sample],
    )


def recall_curves(lines: Sequence[Line], search: str) -> Markup:
    """SVG: the share of queries whose target is among the first K results, for every composer."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 3.6), layout="constrained")
    axes = figure.subplots()
    places = np.arange(1, DEPTH + 1)
    for composer in dict.fromkeys(line["composer"] for line in lines):
        ranks = np.array(
            [
                line["rank"] or DEPTH + 1
                for line in lines
                if line["composer"] == composer and line["search"] == search
            ]
        )
        axes.plot(places, [100 * (ranks <= k).mean() for k in places], label=composer)
    axes.set(
        xscale="log",
        xlabel="K",
        ylabel="queries with the target in the first K, %",
        xlim=(1, DEPTH),
    )
    axes.set_xticks([1, 2, 5, 10, 20, 50], ["1", "2", "5", "10", "20", "50"])
    axes.minorticks_off()
    axes.set_ylim(0, 100)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1, 1))
    return _svg(figure)


def reliability_diagram(found: Mapping[str, Reliability]) -> Markup:
    """SVG: for each composer, stated chances against the shares of hits that are right.

    A dot is a bin of stated chances, the larger the more hits it has; its bar is the 95 % interval
    of the share (Wilson 1927). Dots on the diagonal are stated rightly.
    """
    from matplotlib.figure import Figure

    columns = min(len(found), DIAGRAMS_IN_A_ROW)
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(2.5 * columns, 2.8 * rows), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True)
    for axes in grid.flat[len(found) :]:
        axes.set_visible(False)
    for axes, (composer, one) in zip(grid.flat, found.items()):
        stated = np.array([bin.confidence for bin in one.bins])
        right = np.array([bin.right for bin in one.bins])
        hits = np.array([bin.hits for bin in one.bins])
        low, high = wilson_interval(right, hits)
        axes.plot([0, 100], [0, 100], color="0.6", linewidth=0.8, linestyle="--")
        axes.vlines(100 * stated, 100 * low, 100 * high, color="C0", linewidth=1)
        axes.scatter(100 * stated, 100 * right, s=8 + 60 * np.sqrt(hits / hits.sum()), zorder=3)
        axes.set_title(f"{composer}\nECE {one.ece:.2%}, Brier {one.brier:.3f}", fontsize=9)
        axes.set(xlim=(0, 100), ylim=(0, 100), aspect="equal")
        axes.grid(alpha=0.3)
    figure.supxlabel("confidence, %", fontsize=9)
    figure.supylabel("right, %", fontsize=9)
    return _svg(figure)


def wilson_interval(
    share: NDArray[np.float64], count: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % interval of a share of ``count`` trials (Wilson 1927)."""
    z = 1.96
    middle = (share + z**2 / (2 * count)) / (1 + z**2 / count)
    half = z * np.sqrt(share * (1 - share) / count + z**2 / (4 * count**2)) / (1 + z**2 / count)
    return middle - half, middle + half


def _svg(figure: Figure) -> Markup:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=False, metadata={"Date": None})
    return Markup(buffer.getvalue()[buffer.getvalue().index("<svg") :])


def _measures(figures: dict[str, Any], whole: str) -> list[str]:
    return list(next(iter(figures.values()))[whole]) if figures else []


def _sample(lines: Sequence[Line], has_truth: bool) -> list[tuple[Line, set[str]]]:
    """The queries to show, from every aspect, with the reasons why each was chosen."""
    rng = random.Random(0)
    found: dict[str, tuple[Line, set[str]]] = {}

    def take(chosen: Sequence[Line], kind: str) -> None:
        for line in chosen:
            found.setdefault(line["query"], (line, set()))[1].add(kind)

    for group in _by_aspect(lines):
        if has_truth:
            take(sorted(group, key=_goodness, reverse=True)[:OF_EACH], BEST)
            take(sorted(group, key=_goodness)[:OF_EACH], WORST)
        take(rng.sample(group, min(OF_EACH, len(group))), RANDOM)
    return list(found.values())


def _by_aspect(lines: Sequence[Line]) -> Iterator[list[Line]]:
    groups: dict[str, list[Line]] = {}
    for line in lines:
        for aspect in line["aspects"] or [""]:
            groups.setdefault(aspect, []).append(line)
    yield from list(groups.values())[:MAX_ASPECTS]


def _goodness(line: Line) -> tuple[float, float]:
    """By rank of the target, then by score; a high score is worse where the target is missing."""
    best = line["scores"][0] if line["scores"] else 0.0
    if line["rank"] is None:
        return (-float(DEPTH + 1), -best)
    return (-float(line["rank"]), line["scores"][line["rank"] - 1])


class _Explain:
    """The words nearest to a reference's pseudo-words; none for a composer without them."""

    def __init__(self, benchmark: Benchmark, composer: Composer, method: str):
        self.benchmark = benchmark
        self.composer = composer
        self.works = find_composer(method).needs_inverter
        self.explainer = Explainer(composer.backbone)

    def __call__(self, line: Line) -> list[NearestWords]:
        path = self.benchmark.picture(line["reference"])
        if not self.works or path is None:
            return []
        try:
            words = self.composer.image_references([open_image(path).image]).words
        except BadImage:
            return []
        return [] if words is None else list(self.explainer.explain(words, most=3))


def _page_row(
    benchmark: Benchmark, line: Line, kinds: set[str], explanation: Sequence[NearestWords]
) -> PageRow:
    right = set(line["relevant"])
    hits = list(zip(line["ids"], line["scores"]))[:HITS]
    found = {id for id, _ in hits}
    rank = "not found" if line["rank"] is None else f"at rank {line['rank']}"
    warning = "the text was longer than the model's context and was cut"
    return PageRow(
        references=[
            thumbnail(benchmark.picture(id))
            for id in (line["reference"], *(line["more_references"] or ()))
        ],
        text=line["text"],
        composer=line["composer"] + (f"; target {rank}" if right else ""),
        hits=[_page_image(benchmark, id, f"{score:.3f}", id in right) for id, score in hits],
        warnings=(warning,) if line["truncated"] else (),
        words=[explanation] if explanation else [],
        answers=[
            _page_image(benchmark, id, "", right=True)
            for id in line["relevant"][:HITS]
            if id not in found
        ],
        labels=[*sorted(kinds), *line["aspects"]],
    )


def _page_image(benchmark: Benchmark, id: str, score: str, right: bool) -> PageImage:
    return PageImage(thumbnail(benchmark.picture(id)), benchmark.title(id), score, right)
