"""``fti-train``: makes models, from captions to a model card."""

from __future__ import annotations

import click

from fti_qdrant.cli.logging_options import logging_options
from fti_qdrant.cli.program_options import program_options
from fti_training.cli.cache import cache
from fti_training.cli.captions import captions
from fti_training.cli.card import card, push
from fti_training.cli.fit import fit
from fti_training.cli.import_checkpoint import import_checkpoint
from fti_training.cli.mini import mini


@click.group()
@program_options("fti-train")
def main() -> None:
    """Train the models of fti-qdrant."""


for command in (captions, cache, fit, card, push, import_checkpoint, mini):
    main.add_command(logging_options(command))

if __name__ == "__main__":
    main()
