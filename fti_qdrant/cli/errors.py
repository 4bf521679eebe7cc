"""One line for every error; a traceback that reaches a user is a bug."""

from __future__ import annotations

import functools
import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from fti_qdrant.errors import FtiError

F = TypeVar("F", bound=Callable[..., Any])
DEBUG = "FTI_DEBUG"


def one_line_errors(command: F) -> F:
    """Prints our errors as one line and exits with their code: 2 bad input, 1 failure.

    With FTI_DEBUG=1 in the environment the traceback comes out instead.
    """

    @functools.wraps(command)
    def wrapped(*args: Any, **options: Any) -> Any:
        try:
            return command(*args, **options)
        except FtiError as error:
            _leave(str(error), error.exit_code)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            _leave(f"unexpected {type(error).__name__}: {error} (for more: {DEBUG}=1)", 1)

    return wrapped  # type: ignore[return-value]


def _leave(message: str, code: int) -> None:
    if os.environ.get(DEBUG):
        raise
    click.echo(f"Error: {' '.join(message.split())}", err=True)
    sys.exit(code)
