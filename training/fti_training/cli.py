"""``fti-train``: makes models, from captions to a model card."""

from __future__ import annotations

import click

from fti_training.cache.command import cache
from fti_training.captions.command import captions
from fti_training.card.command import card, push
from fti_training.fit.command import fit
from fti_training.importer.command import import_checkpoint
from fti_training.mini.command import mini


@click.group()
def main() -> None:
    """Train the models of fti-qdrant."""


for command in (captions, cache, fit, card, push, import_checkpoint, mini):
    main.add_command(command)

if __name__ == "__main__":
    main()
