"""``fti-train mini``: makes the embedded model."""

from __future__ import annotations

from pathlib import Path

import click

from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.user_text import print_lines

EPILOG = """\b
Examples:
  fti-train mini --out runs/mini            one to two hours on 2 cores
  fti-train mini --out runs/mini --start fti_qdrant/weights/mini    a third of that
  fti-train mini --out runs/quick --set backbone_steps=50 --set inverter_steps=20
  fti-train mini --out runs/mini --print-config

\b
Checkpoints and logs are kept in OUT/training. Run a stopped or killed command again to continue.
"""


@click.command(epilog=EPILOG)
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder of the model, its checkpoints and logs.",
)
@click.option(
    "--start",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of a mini model. Keep its visual tower; train its text tower, and a new inverter.",
)
@click.option(
    "--set",
    "overrides",
    multiple=True,
    metavar="NAME=VALUE",
    help="Change a setting; --print-config lists them.",
)
@click.option("--print-config", is_flag=True, help="Print the settings as JSON and exit.")
@one_line_errors
def mini(out: Path, start: Path | None, overrides: tuple[str, ...], print_config: bool) -> None:
    """Train the embedded model on emoji drawings and print its figures on held-out emoji.

    Needs fti-qdrant[demo], and Python 3.11 for the OpenMoji artwork.
    """
    from fti_training.mini.config import MiniConfig
    from fti_training.settings import parse_overrides, parse_settings

    config = parse_settings(MiniConfig, parse_overrides(overrides))
    if print_config:
        print_lines(*config.model_dump_json(indent=2).split("\n"))
        return
    from fti_training.emoji_packages import need_emoji
    from fti_training.mini.card import table
    from fti_training.mini.train import train_mini

    need_emoji("twemoji", "openmoji")
    figures = train_mini(config, out, start)
    for question, rows in figures.items():
        print_lines("", question, *table(rows).split("\n"))
    loading = f"Composer.load('local-dir:{out}', '{out}/inverter')"
    print_lines("", f"model: {out}, load it with {loading}")
