"""Which options of the composers suit emoji: chosen on the seen edits, shown on the others too.

    python bench/composer_options.py

The best by R@1 on the seen edits is what ``fti-train mini`` writes beside its model
(``composers.json``). Held-out edits and unseen wordings are shown for these alone, and choose
nothing. A second table shows how far a query should move away from what it avoids: among the five
best, the share that has the avoided value, and the share of the reference's own kind.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

if __name__ == "__main__":  # also as a file: `python bench/composer_options.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fti_qdrant.benchmarks.emoji.edits import (
    KNOWN_WORDINGS,
    UNSEEN_WORDINGS,
    Edit,
    Wordings,
    edits,
)
from fti_qdrant.composers import compose
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.description import ComposerInputs, unit
from fti_qdrant.composers.registry import find_composer
from fti_qdrant.model.names import MINI
from fti_training.mini.evaluate import (
    CHUNK,
    Gallery,
    composer_inputs,
    embed,
    ranks,
    recalls,
    texts_of,
)
from fti_training.mini.pictures import draw_all
from fti_training.mini.train import GALLERY_ARTWORK, Mini

WEIGHTS = (0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9)
STEPS = (0.8, 1.0, 1.2, 1.4, 1.6)
GRIDS: dict[str, list[dict[str, float]]] = {
    "sum": [{"text_weight": weight} for weight in WEIGHTS],
    "slerp": [{"text_weight": weight} for weight in WEIGHTS],
    "pdv": [
        {"text_weight": weight, "image_step": step} for weight, step in product(WEIGHTS, STEPS)
    ],
}
AVOID_STEPS = (0.0, 0.25, 0.5, 0.75, 1.0)
BEST = 5
FAMILY = 6
"""Avoiding is measured on emoji with at least so many siblings."""


@dataclass(frozen=True)
class Edits:
    """Edits with the features that the composers read; options are tried on these alone."""

    inputs: ComposerInputs
    references: Tensor
    targets: Tensor

    @classmethod
    def of(
        cls, composer: Composer, gallery: Gallery, asked: list[Edit], wordings: Wordings
    ) -> Edits:
        features: dict[str, list[Tensor]] = {}
        for start in range(0, len(asked), CHUNK):
            chunk = asked[start : start + CHUNK]
            texts = texts_of(chunk, wordings)
            inputs = composer_inputs(composer, gallery, chunk, texts, list(GRIDS))
            for need, values in inputs.features.items():
                features.setdefault(need, []).append(values)
        each = {need: torch.cat(parts) for need, parts in features.items()}
        rows_of = gallery.row
        return cls(
            ComposerInputs(each),
            torch.tensor([rows_of[edit.reference.key] for edit in asked]),
            torch.tensor([rows_of[edit.target.key] for edit in asked]),
        )

    def r1(self, gallery: Gallery, name: str, options: dict[str, float]) -> float:
        composer = find_composer(name)
        made = composer.function(self.inputs, composer.check_options(options))
        scores = unit(made) @ gallery.vectors.T
        scores[torch.arange(len(made)), self.references] = -torch.inf
        return recalls(ranks(scores, self.targets))["R@1"]


@torch.inference_mode()
def options_table(composer: Composer, gallery: Gallery) -> Table:
    found = list(edits(gallery.pictures.emoji))
    seen = [edit for edit in found if not edit.target.held_out]
    held_out = [edit for edit in found if edit.target.held_out]
    choosing = Edits.of(composer, gallery, seen, KNOWN_WORDINGS)
    others = [
        Edits.of(composer, gallery, held_out, wordings)
        for wordings in (KNOWN_WORDINGS, UNSEEN_WORDINGS)
    ]
    table = Table("composer", "options", "seen", "held out", "unseen wordings", title="R@1")
    for name, grid in GRIDS.items():
        best, options = max(
            ((choosing.r1(gallery, name, options), options) for options in grid),
            key=lambda one: one[0],
        )
        figures = (best, *(one.r1(gallery, name, options) for one in others))
        text = ", ".join(f"{option}={value}" for option, value in options.items())
        table.add_row(name, text, *(f"{figure:.4f}" for figure in figures))
    return table


def facets(gallery: Gallery) -> Iterator[tuple[int, str, str]]:
    """Emoji with siblings: row, facet, and the value that a query is to avoid."""
    families = [emoji.family for emoji in gallery.pictures.emoji]
    for row, emoji in enumerate(gallery.pictures.emoji):
        if families.count(emoji.family) >= FAMILY:
            yield from ((row, facet, value) for facet, value in emoji.facets.items())


def avoid_table(composer: Composer, gallery: Gallery, most: int) -> Table:
    asked = list(facets(gallery))
    asked = asked[:: max(1, len(asked) // most)]
    table = Table("step", "composer", "has the avoided value", "of the same kind", title="avoid")
    for step, name in product(AVOID_STEPS, ("image", "fti")):
        compose.AVOID_STEP = step
        avoided, kind = _shares(composer, gallery, asked, name)
        table.add_row(f"{step:g}", name, f"{avoided:.3f}", f"{kind:.3f}")
    return table


@torch.inference_mode()
def _shares(
    composer: Composer, gallery: Gallery, asked: Sequence[tuple[int, str, str]], name: str
) -> tuple[float, float]:
    rows = [row for row, _, _ in asked]
    references = composer.references(gallery.features.take(rows), (1,) * len(rows))
    avoid = [value for _, _, value in asked]
    made = composer.compose_references(references, [""] * len(rows), name, avoid=avoid)
    scores = made.vectors @ gallery.vectors.T
    scores[torch.arange(len(rows)), torch.tensor(rows)] = -torch.inf
    emoji = gallery.pictures.emoji
    found = [[emoji[at] for at in line] for line in scores.topk(BEST, dim=1).indices.tolist()]
    pairs = [(query, one) for query, line in zip(asked, found) for one in line]
    avoided = sum(one.facets.get(facet) == value for (_, facet, value), one in pairs)
    kind = sum(one.family == emoji[row].family for (row, _, _), one in pairs)
    return avoided / len(pairs), kind / len(pairs)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--queries", default=500, show_default=True, help="Of the table about avoid.")
def main(queries: int) -> None:
    """Prints both tables."""
    composer = Mini.load(MINI).composer
    gallery = embed(composer.backbone, draw_all(GALLERY_ARTWORK, composer.backbone.preprocess))
    console = Console()
    console.print(avoid_table(composer, gallery, queries))
    console.print(options_table(composer, gallery))


if __name__ == "__main__":
    main()
