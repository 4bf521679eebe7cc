"""A log of JSON lines: what a run does, and each retry."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pythonjsonlogger.json import JsonFormatter

from fti_qdrant.errors import OutputUnavailable

LOGGED = ("fti_ingest", "fti_qdrant")
"""The loggers whose records go into the log."""

logger = logging.getLogger("fti_ingest")


@contextmanager
def json_log(path: Path | None) -> Iterator[None]:
    """Appends our log records, retries included, to a file. Raises OutputUnavailable."""
    if path is None:
        yield
        return
    try:
        handler = logging.FileHandler(path, mode="a", encoding="utf-8")
    except OSError as error:
        raise OutputUnavailable(f"the log cannot be written: {error}; choose --log FILE") from error
    handler.setFormatter(
        JsonFormatter(
            "{levelname}{name}{message}", style="{", timestamp=True, json_ensure_ascii=False
        )
    )
    before = [(one, one.level) for one in map(logging.getLogger, LOGGED)]
    for one, _ in before:
        one.addHandler(handler)
        one.setLevel(logging.INFO)
        one.propagate = False
    try:
        yield
    except BaseException as error:
        reason = {"error": str(error) or type(error).__name__}
        failed = logger.makeRecord(
            logger.name, logging.ERROR, "", 0, "failed", (), None, extra=reason
        )
        handler.handle(failed)  # into the log alone: the command itself reports the error
        raise
    finally:
        for one, level in before:
            one.removeHandler(handler)
            one.setLevel(level)
            one.propagate = True
        handler.close()
