"""``fti-ingest SOURCE ...`` ingests; its other commands describe a gallery, and add to it."""

from __future__ import annotations

import click

from fti_ingest.cli import run
from fti_ingest.cli.adopt import adopt
from fti_ingest.cli.status import status
from fti_ingest.cli.switch import switch
from fti_ingest.cli.words import words
from fti_qdrant.cli.default_command import DefaultCommandGroup
from fti_qdrant.cli.logging_options import logging_options
from fti_qdrant.cli.program_options import program_options


@click.group(cls=DefaultCommandGroup, default="run", epilog=run.EPILOG)
@program_options("fti-ingest")
def main() -> None:
    """Embed images into a Qdrant gallery: fti-ingest SOURCE (--gallery DIR | --url URL ...).

    "run" may be left out: fti-ingest photos/ is fti-ingest run photos/.
    """


for command in (run.ingest, adopt, status, switch, words):
    main.add_command(logging_options(command))
