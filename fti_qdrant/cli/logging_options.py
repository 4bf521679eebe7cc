"""``-v`` and ``-q``: how much a command reports on standard error."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from typing import Any, TextIO, TypeVar

import click

from fti_qdrant.cli.user_text import printable

F = TypeVar("F", bound=Callable[..., Any])

LOGGERS = ("fti_qdrant", "fti_ingest", "fti_training")
"""The packages whose messages are shown."""

LEVELS = (logging.WARNING, logging.INFO, logging.DEBUG)
"""Level without ``-v``, with one, and with two or more."""

STANDARD_FIELDS = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
"""What every log record has."""

VERBOSITY, QUIET = "fti_qdrant.verbosity", "fti_qdrant.quiet"
"""Keys of click's ``Context.meta``, which a group shares with its commands."""


def configure_logging(level: int) -> None:
    """Sends the messages of our packages to standard error.

    Calling it again replaces what the last call set.

    Args:
        level: the lowest level that is shown. Above WARNING, other packages' warnings are hidden
            too.
    """
    others = logging.getLogger()
    _replace_handler(others, _OtherPackages(level))
    others.setLevel(max(level, logging.WARNING))
    for logger in map(logging.getLogger, LOGGERS):
        _replace_handler(logger, _StandardError(level))
        logger.setLevel(level)


def is_quiet() -> bool:
    """Whether the running command was given ``-q``; False outside of a command."""
    context = click.get_current_context(silent=True)
    return context is not None and bool(context.meta.get(QUIET))


def logging_options(command: F) -> F:
    """Adds ``-v`` and ``-q`` to a command or a group; the function itself takes no arguments.

    Use it on a group and on its commands: ``fti-eval -v run`` and ``fti-eval run -v`` are the same.
    """
    verbose = click.option(
        "-v",
        "--verbose",
        count=True,
        expose_value=False,
        callback=_verbose,
        help="Report more on standard error; -vv reports everything.",
    )
    quiet = click.option(
        "-q",
        "--quiet",
        is_flag=True,
        expose_value=False,
        callback=_quiet,
        help="Show no progress bar and no warnings, only errors and results.",
    )
    return verbose(quiet(command))


class _Printable(logging.Formatter):
    """Messages hold file names and what servers answer."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        return printable(super().formatMessage(record))


class _StandardError(logging.StreamHandler):
    """Writes to what ``sys.stderr`` is now: a progress bar or Ray's start may replace it."""

    def __init__(self, level: int):
        logging.Handler.__init__(self, level)
        self.setFormatter(_WithFigures("{levelname}: {message}", style="{"))

    @property
    def stream(self) -> TextIO:
        return sys.stderr


class _OtherPackages(_StandardError):
    """Writes what is not ours, as it is. Without it, a package might set up logging for all."""

    def __init__(self, level: int):
        super().__init__(level)
        self.setFormatter(logging.Formatter("{message}", style="{"))
        self.addFilter(lambda record: record.name.partition(".")[0] not in LOGGERS)


class _WithFigures(_Printable):
    """Shows what a record carries besides its message: ``listed: images=71, rejected=1``."""

    def format(self, record: logging.LogRecord) -> str:
        figures = {
            name: value
            for name, value in vars(record).items()
            if name not in STANDARD_FIELDS
            and not name.startswith("_")  # Ray's, once it is imported
            and isinstance(value, (int, float, str))
        }
        shown = ", ".join(f"{name}={value}" for name, value in figures.items() if value != "")
        return super().format(record) + (f": {printable(shown)}" if shown else "")


def _replace_handler(logger: logging.Logger, handler: logging.Handler) -> None:
    """In place of what an earlier call has added."""
    for one in [one for one in logger.handlers if isinstance(one, _StandardError)]:
        logger.removeHandler(one)
    logger.addHandler(handler)


def _verbose(context: click.Context, parameter: click.Parameter, count: int) -> None:
    context.meta[VERBOSITY] = context.meta.get(VERBOSITY, 0) + count
    _apply(context)


def _quiet(context: click.Context, parameter: click.Parameter, given: bool) -> None:
    context.meta[QUIET] = context.meta.get(QUIET, False) or given
    _apply(context)


def _apply(context: click.Context) -> None:
    verbosity, quiet = context.meta.get(VERBOSITY, 0), context.meta.get(QUIET, False)
    if quiet and verbosity:
        raise click.UsageError("choose one of --verbose and --quiet", context)
    configure_logging(logging.ERROR if quiet else LEVELS[min(verbosity, len(LEVELS) - 1)])
