"""``fti-ingest switch``: lets an alias stand for another gallery."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import click

from fti_ingest.cli.target_options import target_options
from fti_qdrant.cli.errors import one_line_errors
from fti_qdrant.cli.user_text import print_lines

if TYPE_CHECKING:
    from fti_ingest.cli.target_options import Target

EPILOG = """\b
Examples:
  fti-ingest switch --url http://localhost:6333 --alias shop --collection shop-1
  fti-ingest switch --alias galleries/shop --gallery galleries/shop-1
"""


@click.command(epilog=EPILOG)
@target_options("The name to switch; embedded, the path of a link.")
@one_line_errors(after_stop="nothing was changed")
def switch(target: Target) -> None:
    """Let an alias stand for another gallery, at once; so also back to an earlier one."""
    from fti_ingest.run.behind_alias import switch as switch_to

    if target.alias is None or target.chosen is None:
        raise click.UsageError("pass --alias NAME, and the gallery that it is to stand for")
    with closing(target.chosen.open()):  # there is one
        pass
    print_lines(switch_to(target.alias, target.chosen).line())
