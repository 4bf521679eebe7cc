"""The options that every program has: ``--version``, ``-v`` and ``-q``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from fti_qdrant.cli.logging_options import logging_options

F = TypeVar("F", bound=Callable[..., Any])

DISTRIBUTION = "fti-qdrant"


def program_options(program: str) -> Callable[[F], F]:
    """For the command or the group that a program starts with.

    Example:
        >>> @click.command()
        ... @program_options("fti-search")
        ... def main() -> None: ...
        >>> "--version" in main.get_help(click.Context(main))
        True
    """
    version = click.version_option(
        package_name=DISTRIBUTION, prog_name=program, message="%(prog)s %(version)s"
    )
    return lambda command: version(logging_options(command))
