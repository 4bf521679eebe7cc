"""What scores look like for each composer, and what a cutoff keeps: held-out emoji edits, mini.

    python bench/cutoff.py

A cutoff of 0.9 keeps hits with at least 0.9 times the best score. The columns say how much of the
gallery that is (median), and how often the right answer is still among it.
"""

from __future__ import annotations

import sys
from pathlib import Path

if __name__ == "__main__":  # also as a file: `python bench/cutoff.py`
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import click
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from fti_qdrant.benchmarks.emoji.edits import KNOWN_WORDINGS, Edit
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.registry import composer_names, find_composer
from fti_qdrant.model.names import MINI
from fti_training.mini.evaluate import Gallery, embed, held_out_edits
from fti_training.mini.pictures import draw_all
from fti_training.mini.train import GALLERY_ARTWORK, Mini

CUTOFFS = (0.95, 0.9, 0.8, 0.7)


@torch.inference_mode()
def scores_of(composer: Composer, gallery: Gallery, asked: list[Edit], name: str) -> Tensor:
    """``[Q, N]``, the references left out by the lowest possible score."""
    rows = [gallery.row[edit.reference.key] for edit in asked]
    features = gallery.features.take(rows)
    invert = find_composer(name).needs_inverter
    references = composer.references(features, (1,) * len(rows), invert=invert)
    texts = [edit.wording(KNOWN_WORDINGS) for edit in asked]
    vectors = composer.compose_references(references, texts, name).vectors
    scores = torch.nn.functional.normalize(vectors, dim=-1) @ gallery.vectors.T
    scores[torch.arange(len(rows)), torch.tensor(rows)] = -1
    return scores


def row_of(scores: Tensor, targets: Tensor) -> list[str]:
    """The cells of one composer."""
    best, own = scores.max(dim=1).values, scores.gather(1, targets[:, None])[:, 0]
    cells = [f"{float(value):.2f}" for value in (best.median(), scores.median(), own.median())]
    for cutoff in CUTOFFS:
        least = cutoff * best
        kept = (scores >= least[:, None]).sum(dim=1).float().median()
        right = float((own >= least).float().mean())
        cells.append(f"{int(kept):,} / {right:.3f}")
    return cells


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--queries", default=830, show_default=True, help="Most edits, evenly chosen.")
def main(queries: int) -> None:
    """Print scores, and what cutoffs keep."""
    composer = Mini.load(MINI).composer
    gallery = embed(composer.backbone, draw_all(GALLERY_ARTWORK, composer.backbone.preprocess))
    found = held_out_edits(gallery)
    asked = found[:: max(1, len(found) // queries)]
    targets = torch.tensor([gallery.row[edit.target.key] for edit in asked])
    columns = [f"cutoff {cutoff}: kept / right" for cutoff in CUTOFFS]
    table = Table("composer", "best", "any image", "right answer", *columns)
    for name in composer_names():
        table.add_row(name, *row_of(scores_of(composer, gallery, asked, name), targets))
    console = Console()
    console.print(f"{len(asked)} queries, {len(gallery.vectors):,} images")
    console.print(table)


if __name__ == "__main__":
    main()
