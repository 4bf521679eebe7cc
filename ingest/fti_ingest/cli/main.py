"""``fti-ingest``: ``fti-ingest SOURCE ...`` ingests, ``fti-ingest status ...`` looks."""

from __future__ import annotations

import click
from click_default_group import DefaultGroup

from fti_ingest.cli import run
from fti_ingest.cli.status import status


@click.group(cls=DefaultGroup, default="run", epilog=run.EPILOG)
def main() -> None:
    """Embed images into a Qdrant gallery: fti-ingest SOURCE (--gallery DIR | --url URL ...).

    "run" may be left out: fti-ingest photos/ is fti-ingest run photos/. All its options:
    fti-ingest run --help.
    """


main.add_command(run.ingest)
main.add_command(status)
