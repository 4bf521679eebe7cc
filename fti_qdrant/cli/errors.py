"""One line for every error; a traceback that reaches a user is a bug."""

from __future__ import annotations

import functools
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar, overload

import click

from fti_qdrant.cli.option_spelling import as_options
from fti_qdrant.cli.user_text import print_lines
from fti_qdrant.errors import FtiError, Interrupted

F = TypeVar("F", bound=Callable[..., Any])
DEBUG = "FTI_DEBUG"

PIPE_CLOSED = 141
"""Exit code when the reader of a pipe has gone, as with ``| head``: 128 + SIGPIPE."""


@overload
def one_line_errors(command: F) -> F: ...


@overload
def one_line_errors(*, after_stop: str) -> Callable[[F], F]: ...


def one_line_errors(
    command: F | None = None, *, after_stop: str = "run the same command again to continue"
) -> F | Callable[[F], F]:
    """Prints an error as one line on standard error and exits: 2 for bad input, 1 for a failure.

    Ctrl-C prints ``stopped; ...`` and exits with 130. A closed pipe exits in silence. With
    FTI_DEBUG=1 in the environment errors show their traceback instead.

    Args:
        after_stop: what to do after Ctrl-C, or what it left behind.
    """
    if command is None:
        return functools.partial(_in_one_line, after_stop=after_stop)
    return _in_one_line(command, after_stop)


def _in_one_line(command: F, after_stop: str) -> F:
    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> Any:
        try:
            return command(*args, **options)
        except Interrupted as error:
            _stop(str(error))
        except FtiError as error:
            _leave(str(error), error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            _stop(f"stopped; {after_stop}")
        except BrokenPipeError:
            _discard_output()
            sys.exit(PIPE_CLOSED)
        except Exception as error:
            if _came_of_ctrl_c(error):
                _stop(f"stopped; {after_stop}")
            _leave(f"unexpected {type(error).__name__}: {error} (for more: {DEBUG}=1)", 1)

    return wrapped  # type: ignore[return-value]


def _came_of_ctrl_c(error: BaseException | None) -> bool:
    """A library that Ctrl-C interrupts may fail in its own way on its way out."""
    while error is not None and not isinstance(error, KeyboardInterrupt):
        error = error.__cause__ or error.__context__
    return error is not None


def _leave(message: str, code: int) -> None:
    if os.environ.get(DEBUG):
        raise
    in_one_line = re.sub(r"\s*\n\s*", " ", as_options(message).strip())
    print_lines(f"Error: {in_one_line}", err=True)
    sys.exit(code)


def _stop(message: str) -> None:
    print_lines(message, err=True)
    sys.exit(Interrupted.exit_code)


def _discard_output() -> None:
    """At its end Python writes what is left in the buffer, which would fail again."""
    with suppress(OSError, ValueError):  # standard output is not a file, as in a test
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
