"""Files and folders that are replaced completely or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PART = ".part"
"""Suffix of what is being written. A killed process may leave one; the next write replaces it."""


OLD = ".old"
"""Suffix of a folder that is being replaced."""


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write a file or a folder to, which takes the place of ``path`` at the end.

    Where writing fails or is interrupted, ``path`` stays as it was.

    Example:
        >>> import tempfile
        >>> report = Path(tempfile.mkdtemp()) / "report.json"
        >>> with replacing(report) as part:
        ...     _ = part.write_text("{}")
        >>> report.read_text()
        '{}'

    Raises OSError as the writing itself does.
    """
    part = path.with_name(path.name + PART)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove(part)
    try:
        yield part
        if part.is_dir():
            _replace_folder(part, path)
        else:
            with part.open("rb") as file:
                os.fsync(file.fileno())  # else a power loss may leave an empty file
            part.replace(path)
    except BaseException:
        _remove(part)
        raise


def write_text(path: Path, text: str) -> None:
    """Replaces a text file. Raises OSError."""
    with replacing(path) as part:
        part.write_text(text, encoding="utf-8")


def _replace_folder(part: Path, path: Path) -> None:
    """A folder cannot replace a folder: the old one is moved aside, which takes no time."""
    old = path.with_name(path.name + OLD)
    _remove(old)
    if path.exists():
        path.replace(old)
    part.replace(path)
    _remove(old)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
