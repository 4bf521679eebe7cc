"""``fti-train``: trains inverters, from captions to a model card."""

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

EPILOG = """\b
Examples:
  fti-train captions photos/ --out captions.parquet
  fti-train fit --captions captions.parquet --model ViT-L-14-quickgelu/openai --out runs/first
  fti-train card runs/first --license apache-2.0
"""


@click.group(epilog=EPILOG)
@program_options("fti-train")
def main() -> None:
    """Train the models of fti-qdrant."""


for command in (captions, cache, fit, card, push, import_checkpoint, mini):
    main.add_command(logging_options(command))

if __name__ == "__main__":
    main()
