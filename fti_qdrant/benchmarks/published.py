"""Published figures, shown next to ours. They are quoted, not recomputed.

``published.json`` holds the rows of the papers' tables, in percent, as printed, each with the place
that it was read from. A figure that the sources do not agree on is left out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from importlib.resources import files

from pydantic import ConfigDict, TypeAdapter

FILE = "published.json"


@dataclass(frozen=True)
class Published:
    """One row of a paper's table.

    Attributes:
        paper: that presents the method.
        benchmark, split: what it was measured on.
        source: where the figures were read.
        figures: measure -> percent; of FashionIQ the averages over the categories.
        backbone: the CLIP model.
        by_kind: kind of query -> measure -> percent, where the paper has them.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    method: str
    paper: str
    benchmark: str
    split: str
    source: str
    figures: dict[str, float]
    backbone: str = "ViT-L/14"
    by_kind: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """As a table names it.

        Example:
            >>> published_by("FTI4CIR")[0].label
            'FTI4CIR, published (SIGIR 2024, ViT-L/14, val)'
        """
        return f"{self.method}, published ({self.paper}, {self.backbone}, {self.split})"


PUBLISHED: tuple[Published, ...] = TypeAdapter(tuple[Published, ...]).validate_json(
    files(__package__).joinpath(FILE).read_bytes()
)


def published_for(benchmark: str) -> list[Published]:
    """The published rows for a benchmark."""
    return [row for row in PUBLISHED if row.benchmark == benchmark]


def published_by(method: str | None) -> list[Published]:
    """The published rows of a method; none for None."""
    return [row for row in PUBLISHED if row.method == method]
