"""``fti-train card`` and ``fti-train push``: a trained inverter, told and shared."""

from __future__ import annotations

from pathlib import Path

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.renamed_option import RenamedOption

CARD_EPILOG = """\b
Example:
  fti-train card runs/first --license apache-2.0
"""

PUSH_EPILOG = """\b
Examples:
  fti-train push runs/first me/fti-vit-l-14
  fti-train push runs/first me/fti-vit-l-14 --private

\b
Log in first: huggingface-cli login, or set HF_TOKEN. Others then use it with
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
    help="License of the weights, for the card.",
)
@one_line_errors
def card(run: Path, license: str) -> None:
    """Write the model card of RUN, the folder of a finished `fti-train fit`.

    Data, figures, settings and the curve go into RUN/inverter, beside the weights.
    """
    from fti_training.card.write import Run, write_card

    click.echo(f"card: {write_card(Run.read(run), license)}")


@click.command(epilog=PUSH_EPILOG)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("repo")
@click.option("--private", is_flag=True, help="Only you may see it.")
@one_line_errors
def push(run: Path, repo: str, private: bool) -> None:
    """Upload RUN/inverter with its card to REPO on the model hub."""
    from fti_training.card.upload import upload

    click.echo(f"pushed: {upload(run, repo, private)}")
