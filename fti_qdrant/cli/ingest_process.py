"""fti-ingest, run as a command: the library does not import the applications that stand on it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

import click

from fti_qdrant.errors import FtiError


def run_ingest(arguments: Sequence[str], api_key: str | None = None) -> None:
    """Runs fti-ingest in a process of its own, with its own progress bar.

    Raises FtiError where it fails; it has said why.
    """
    click.echo(f"$ fti-ingest {' '.join(arguments)}")
    environment = {**os.environ, **({"QDRANT_API_KEY": api_key} if api_key else {})}
    done = subprocess.run(
        [sys.executable, "-m", "fti_ingest.cli", *arguments], check=False, env=environment
    )
    if done.returncode:
        raise FtiError(f"fti-ingest ended with exit code {done.returncode}; its message is above")
