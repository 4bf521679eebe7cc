"""Tables on standard output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

FILE_WIDTH = 200
"""Columns of a table that goes to a file or a pipe, unless COLUMNS in the environment says more."""


def output_console() -> Console:
    """Standard output for rich, without automatic colors in plain text."""
    from rich.console import Console

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = max(console.width, FILE_WIDTH)
    return console


def print_tables(tables: Sequence[Table | None]) -> None:
    """Prints those tables that are not None."""
    console = output_console()
    for table in tables:
        if table is not None:
            console.print(table)
