"""``fti-train``: makes models, from captions to a model card."""

from __future__ import annotations

import click

from fti_training.cli.cache import cache
from fti_training.cli.captions import captions
from fti_training.cli.card import card, push
from fti_training.cli.fit import fit
from fti_training.cli.import_checkpoint import import_checkpoint
from fti_training.cli.mini import mini


@click.group()
def main() -> None:
    """Train the models of fti-qdrant."""


for command in (captions, cache, fit, card, push, import_checkpoint, mini):
    main.add_command(command)

if __name__ == "__main__":
    main()
