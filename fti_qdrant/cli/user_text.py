"""Text that comes from users (payloads, paths, captions), printed as it is and nothing more.

A payload may hold ``[/b]``, which rich takes for markup, or an escape sequence, which a terminal
obeys. Everything of the kind that is printed goes through this module.
"""

from __future__ import annotations

import json
import unicodedata
from typing import IO, TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rich.text import Text

ESCAPED_CATEGORIES = ("Cc", "Cs", "Zl", "Zp")
"""Control characters, lone surrogates, line and paragraph separators."""

BIDIRECTIONAL = "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
"""They change the order in which a terminal shows the characters around them."""


def printable(value: object) -> str:
    """The value as text, with control characters as escape sequences.

    Example:
        >>> print(printable("red\\x1b[2Jdress"))
        red\\x1b[2Jdress
    """
    return "".join(
        character.encode("unicode_escape").decode() if _is_control(character) else character
        for character in str(value)
    )


def as_text(value: object, style: str = "") -> Text:
    """The value for rich, which prints it without looking for markup or emoji codes."""
    from rich.text import Text

    return Text(printable(value), style)


def print_lines(*lines: object, err: bool = False, file: IO[str] | None = None) -> None:
    """Prints each argument as one line, whatever is in it.

    Args:
        err: on standard error.
        file: in place of standard output.
    """
    for line in lines:
        click.echo(printable(line), file=file, err=err)


def print_json(value: Any) -> None:
    """Prints one JSON object on standard output; what JSON has no type for is printed as text."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    # JSON's own escapes for what a terminal would obey, and for the surrogates of a file name that
    # is not UTF-8: a program reads the same values
    click.echo("".join(f"\\u{ord(one):04x}" if _is_control(one) else one for one in text))


def _is_control(character: str) -> bool:
    return unicodedata.category(character) in ESCAPED_CATEGORIES or character in BIDIRECTIONAL
