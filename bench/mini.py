"""Held-out figures of the embedded model: composed search on emoji that training never saw.

python bench/mini.py
python bench/mini.py --model runs/mini
python bench/mini.py --all-words
python bench/mini.py --card
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import click

from fti_qdrant.model.closed_vocabulary import VOCABULARY_FILE
from fti_qdrant.model.names import MINI
from fti_training.mini.card import rewrite_figures, table
from fti_training.mini.pictures import draw_all
from fti_training.mini.train import GALLERY_ARTWORK, Mini, measure


@contextmanager
def without_vocabulary(model: Path) -> Iterator[Path]:
    """A folder of the same model without the file that closes its vocabulary."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in model.iterdir():
            if path.name != VOCABULARY_FILE:
                (folder / path.name).symlink_to(path.absolute())
        yield folder


@click.command()
@click.option(
    "--model",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    default=MINI,
    help="Folder made by fti-train mini.  [default: the packaged one]",
)
@click.option("--card", is_flag=True, help="Also write the figures into the model's card.")
@click.option("--all-words", is_flag=True, help="Read words that the model has not learned too.")
def main(model: Path, card: bool, all_words: bool) -> None:
    """Print R@1 and R@10 of the composers on held-out combinations, by the kind of wording."""
    if card and all_words:
        raise click.UsageError("the card's figures are those of the model as it is: no --all-words")
    with without_vocabulary(model) if all_words else nullcontext(model) as folder:
        composer = Mini.load(folder).composer
        shown = draw_all(GALLERY_ARTWORK, composer.backbone.preprocess)
        figures = measure(composer, shown)
    for question, rows in figures.items():
        click.echo(f"\n{question}\n{table(rows)}")
    if card:
        rewrite_figures(model, figures)


if __name__ == "__main__":
    main()
