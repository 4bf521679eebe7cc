"""Held-out figures of the embedded model: composed search on emoji that training never saw.

python bench/mini.py
python bench/mini.py --model runs/mini
"""

from __future__ import annotations

from pathlib import Path

import click

from fti_qdrant.model.names import MINI
from fti_training.mini.card import table
from fti_training.mini.pictures import draw_all
from fti_training.mini.train import GALLERY_ARTWORK, Mini, measure


@click.command()
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=MINI,
    help="Folder made by fti-train mini.  [default: the packaged one]",
)
def main(model: Path) -> None:
    """Print R@1 and R@10 of every composer on held-out combinations."""
    composer = Mini.load(model).composer
    shown = draw_all(GALLERY_ARTWORK, composer.backbone.preprocess)
    for question, rows in measure(composer, shown).items():
        click.echo(f"\n{question}\n{table(rows)}")


if __name__ == "__main__":
    main()
