"""What a benchmark is made of: images, queries with right answers, and ranked lists."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

DEPTH = 50
"""Images stored for each query: the largest K of all protocols here."""


@dataclass(frozen=True)
class GalleryImage:
    """One image of the gallery.

    Attributes:
        id: the benchmark's own name for it.
        path: its file, or None where it is missing.
        parts: the parts of the gallery that hold it; empty where the gallery has no parts.
    """

    id: str
    path: Path | None
    parts: tuple[str, ...] = ()


@dataclass(frozen=True)
class BenchmarkQuery:
    """One composed query with its right answers.

    Attributes:
        reference: id of the reference image.
        texts: modification text; of several, the composed vectors are averaged.
        relevant: ids of the right answers, the target first; empty without ground truth.
        subset: ids of the images that the subset measures rank; empty without such measures.
        part: the part of the gallery that is searched; None searches all of it.
        aspects: kinds of query that it belongs to; each kind has figures of its own too.
        more_references: ids of further reference images, all of which the query composes.
        wrong: ids of the answers that are marked as wrong (hard negatives).
    """

    id: str
    reference: str
    texts: tuple[str, ...]
    relevant: tuple[str, ...] = ()
    subset: tuple[str, ...] = ()
    part: str | None = None
    aspects: tuple[str, ...] = ()
    more_references: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()

    @property
    def references(self) -> tuple[str, ...]:
        """All reference images."""
        return (self.reference, *self.more_references)


UNHASHED_WHERE_EMPTY = ("more_references", "wrong")
"""Fields that came later; queries without them keep the hash of the published files."""


@dataclass(frozen=True)
class Ranked:
    """The images found for each query, best first, in the order of the queries.

    Attributes:
        images: ids from the whole gallery, or None where only the subset was ranked.
        subsets: ids of each query's subset, or None where it was not ranked.
        notes: what a reader of the figures should know about the lists.
        right_ranks: 1-based ranks of each query's right answers, in order, where more was ranked
            than ``images`` holds; else None.
    """

    images: list[list[str]] | None
    subsets: list[list[str]] | None = None
    notes: tuple[str, ...] = ()
    right_ranks: list[list[int]] | None = None


@dataclass(frozen=True)
class Official:
    """The published annotation files of a split.

    Attributes:
        queries: how many there are; None where that is not known.
        digest: see ``Benchmark.digest``; None where the files themselves were not at hand.
    """

    queries: int | None
    digest: str | None = None


def hashed_facts(query: BenchmarkQuery) -> dict[str, Any]:
    """What of a query goes into ``Benchmark.digest``."""
    kept = asdict(query)
    for name in UNHASHED_WHERE_EMPTY:
        if not kept[name]:
            del kept[name]
    return kept
