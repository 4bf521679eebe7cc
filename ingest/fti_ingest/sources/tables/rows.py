"""What a reader of tables yields, and what all of them check."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery.points import OURS

IMAGE_COLUMN = "image"

Row = dict[str, Any] | str
"""A row, whose image is under ``IMAGE_COLUMN``; or what is wrong with it."""

NumberedRows = Iterator[tuple[int, Row]]
"""Rows with the number of their line."""


@dataclass(frozen=True)
class EmbeddedImage:
    """The bytes of an image in a Parquet file.

    Attributes:
        row: its number in the file, from 1.
    """

    column: str
    row: int


def image_column(path: Path, names: Sequence[str], accepted: Sequence[str], hint: str = "") -> str:
    """The column of a table that names the images.

    Args:
        accepted: names of such columns, the first one that is there counts.
        hint: what to say where there is none.

    Raises BadManifest where there is none, a column is there twice, or is reserved.
    """
    found = [name for name in accepted if name in names]
    if not found:
        columns = ", ".join(map(printable, names)) or "none"
        raise BadManifest(
            f"manifest {str(path)!r} has no column {either(accepted)}; its columns are "
            f"{columns}{hint}"
        )
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise BadManifest(f"manifest {str(path)!r} has two columns {twice[0]!r}; rename one")
    if OURS in names:
        raise BadManifest(f"manifest {str(path)!r}: the column {OURS!r} is reserved; rename it")
    return found[0]


def either(names: Sequence[str]) -> str:
    """Names for a message.

    Example:
        >>> print(either(["image", "uri"]))
        'image' or 'uri'
    """
    return " or ".join(map(repr, names))


def printable(name: str) -> str:
    """A name that may hold what is not UTF-8."""
    return name.encode(errors="backslashreplace").decode()
