"""Programs with one main command, whose name may be left out, and some others beside it."""

from __future__ import annotations

import click
from click_default_group import DefaultGroup


class DefaultCommandGroup(DefaultGroup):
    """A group whose default command may be left out: its options are shown as the group's own.

    Example:
        >>> @click.group(cls=DefaultCommandGroup, default="greet")
        ... def main() -> None: ...
        >>> @main.command()
        ... @click.option("--name", help="Whom to greet.")
        ... def greet(name: str) -> None: ...
        >>> "Whom to greet." in main.get_help(click.Context(main))
        True
    """

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        default = self.commands[self.default_cmd_name]
        options = {one.name: one for one in (*default.get_params(ctx), *self.get_params(ctx))}
        records = [one.get_help_record(ctx) for one in options.values()]
        with formatter.section("Options"):
            formatter.write_dl([one for one in records if one is not None and one[1]])
        self.format_commands(ctx, formatter)
