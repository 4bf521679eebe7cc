"""``fti-train card`` and ``fti-train push``: document a trained inverter, and share it."""

from __future__ import annotations

from pathlib import Path

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.extras import need
from fti_qdrant.cli.renamed_option import RenamedOption
from fti_qdrant.cli.user_text import print_lines

CARD_EPILOG = """\b
Example:
  fti-train card runs/first --license apache-2.0
"""

PUSH_EPILOG = """\b
Examples:
  fti-train push runs/first me/fti-vit-l-14
  fti-train push runs/first me/fti-vit-l-14 --private

\b
Log in first with huggingface-cli login, or set HF_TOKEN. Others can then use the inverter as
inverter="me/fti-vit-l-14".
"""


@click.command(epilog=CARD_EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.option(
    "--license",
    cls=RenamedOption,
    once=["--licence"],
    default="other",
    show_default=True,
    help="License of the weights, as the card states it.",
)
@one_line_errors
def card(run: Path, license: str) -> None:
    """Write the model card of RUN, the --out folder of a finished fti-train fit.

    The card is written to RUN/inverter, beside the weights: data, losses, validation figures,
    settings, and a plot of the training. Needs fti-qdrant[train].
    """
    need("matplotlib", "train")
    from fti_training.card.write import FinishedRun, write_card

    print_lines(f"card: {write_card(FinishedRun.read(run), license)}")


@click.command(epilog=PUSH_EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("repo")
@click.option("--private", is_flag=True, help="Make the repository private.")
@one_line_errors
def push(run: Path, repo: str, private: bool) -> None:
    """Upload RUN/inverter with its card to REPO on the Hugging Face hub."""
    from fti_training.card.upload import upload

    print_lines(f"pushed: {upload(run, repo, private)}")
