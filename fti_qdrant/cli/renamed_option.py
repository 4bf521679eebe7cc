"""Options that had another spelling: the old one still works, and ``--help`` leaves it out."""

from __future__ import annotations

from typing import Any

import click


class RenamedOption(click.Option):
    """An option with spellings that ``--help`` leaves out.

    Example:
        >>> @click.command()
        ... @click.option("--license", cls=RenamedOption, once=["--licence"])
        ... def card(license: str) -> None:
        ...     click.echo(license)
        >>> card(["--licence", "MIT"], standalone_mode=False)
        MIT
    """

    def __init__(self, declarations: list[str], once: list[str], **options: Any):
        super().__init__([*declarations, *once], **options)
        self.once = once

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        all_spellings = self.opts
        self.opts = [one for one in all_spellings if one not in self.once]
        try:
            return super().get_help_record(ctx)
        finally:
            self.opts = all_spellings
