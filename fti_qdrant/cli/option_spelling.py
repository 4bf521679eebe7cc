"""Advice that names an argument of the library, as a command line spells it."""

from __future__ import annotations

import re

ARGUMENTS = (
    *("allow_urls", "composer", "inverter", "model"),
    *("vector", "uri_field", "preprocess"),
)
"""Arguments that the commands have as options of the same name."""

_ARGUMENT = re.compile(rf"\b({'|'.join(ARGUMENTS)})=(True|\.\.\.|'[\w-]+')")


def as_options(message: str) -> str:
    """An error message with the options of a command in its advice, the part after the last ``;``.

    What stands before is about the user's data, and stays as it is.

    Example:
        >>> as_options("'a.jpg' is a URL, and URLs are off; allow them with allow_urls=True")
        "'a.jpg' is a URL, and URLs are off; allow them with --allow-urls"
        >>> as_options("no pseudo-words; use composer='sum', or pass inverter=...")
        'no pseudo-words; use --composer sum, or pass --inverter ...'
    """
    what, semicolon, advice = message.rpartition("; ")
    return what + semicolon + (_ARGUMENT.sub(_option, advice) if semicolon else advice)


def _option(found: re.Match[str]) -> str:
    name, value = found.groups()
    option = f"--{name.replace('_', '-')}"
    return option if value == "True" else f"{option} {value.strip(chr(39))}"
