"""``NAME:TYPE`` on the command line, where the name may hold anything."""

from __future__ import annotations

from collections.abc import Sequence

import click


class NameAndType(click.ParamType):
    """Base of options that give fields or columns a type."""

    types: Sequence[str]

    def pair(self, text: str) -> tuple[str, str]:
        """The name and the type. Fails where the type is not one of ``types``."""
        name, _, type = text.rpartition(":")
        if not name or type not in self.types:
            self.fail(f"{text!r} is not {self.name} with a type of {', '.join(self.types)}")
        return name, type
