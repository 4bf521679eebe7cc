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
from rich.console import Console
from rich.table import Table
from torch import Tensor

from bench.calibration import known, scored
from fti_qdrant.composers.registry import composer_names
from fti_qdrant.model.names import MINI
from fti_training.mini.evaluate import embed, held_out_edits
from fti_training.mini.pictures import draw_all
from fti_training.mini.train import GALLERY_ARTWORK, Mini

CUTOFFS = (0.95, 0.9, 0.8, 0.7)


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
    asked = known(found[:: max(1, len(found) // queries)])
    columns = [f"cutoff {cutoff}: kept / right" for cutoff in CUTOFFS]
    table = Table("composer", "best", "any image", "right answer", *columns)
    for name in composer_names():
        one = scored(composer, gallery, asked, name)
        table.add_row(name, *row_of(one.scores, one.targets))
    console = Console()
    console.print(f"{len(asked.edits)} queries, {len(gallery.vectors):,} images")
    console.print(table)


if __name__ == "__main__":
    main()
