"""``fti-ingest SOURCE ...`` ingests, ``fti-ingest status ...`` shows what a gallery holds."""

from __future__ import annotations

import click
from click_default_group import DefaultGroup

from fti_ingest.cli import run
from fti_ingest.cli.status import status
from fti_qdrant.cli.logging_options import logging_options
from fti_qdrant.cli.program_options import program_options


class IngestGroup(DefaultGroup):
    """A group whose default command may be left out: its options are shown as the group's own."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        options = {one.name: one for one in (*run.ingest.get_params(ctx), *self.get_params(ctx))}
        records = [one.get_help_record(ctx) for one in options.values()]
        with formatter.section("Options"):
            formatter.write_dl([one for one in records if one is not None and one[1]])
        self.format_commands(ctx, formatter)


@click.group(cls=IngestGroup, default="run", epilog=run.EPILOG)
@program_options("fti-ingest")
def main() -> None:
    """Embed images into a Qdrant gallery: fti-ingest SOURCE (--gallery DIR | --url URL ...).

    "run" may be left out: fti-ingest photos/ is fti-ingest run photos/.
    """


for command in (run.ingest, status):
    main.add_command(logging_options(command))
