"""Arguments and options that several commands of fti-eval take."""

from __future__ import annotations

from pathlib import Path

import click

NAMES = ("fashioniq", "cirr", "circo", "emoji")

benchmark_argument = click.argument("name", metavar="NAME", type=click.Choice(NAMES))
split_option = click.option("--split", help="[default: the benchmark's first, val or heldout]")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")


EMOJI_PICTURES = Path("eval/emoji-pictures")
"""Where the emoji benchmark draws its images by default."""


def root_of(name: str, root: Path | None) -> Path:
    """The folder of a benchmark's data. Raises UsageError where it is required and missing."""
    if root is None and name != "emoji":
        raise click.UsageError(f"{name} needs --root DIR, the folder it was downloaded to")
    return root or EMOJI_PICTURES
