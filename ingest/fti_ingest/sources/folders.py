"""Walks folders, here or at a URI: all their files, or those that a glob matches."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from fsspec.utils import glob_translate

from fti_qdrant.errors import first_line

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Unreadable = Callable[[str, str], None]
"""Called with a folder that cannot be listed, and the reason."""

ANY_DEPTH = "**"
DOTS = re.compile(r"(^|/)\.{0,2}(/|$)")
"""Empty, ``.`` and ``..`` parts of a path, as the links of a web page may have them."""


@dataclass(frozen=True)
class Pattern:
    """A glob pattern below a folder; ``**`` stands for any number of folders.

    Attributes:
        parts: what stands between its slashes.
        hidden: names that begin with a dot match too.
    """

    parts: tuple[str, ...]
    hidden: bool = False

    @cached_property
    def bounded(self) -> int:
        """Number of leading parts that each match exactly one folder."""
        return self.parts.index(ANY_DEPTH) if ANY_DEPTH in self.parts else len(self.parts) - 1

    def matches(self, path: str) -> bool:
        hides = not self.hidden and any(name.startswith(".") for name in path.split("/"))
        return not hides and self._whole.fullmatch(path) is not None

    def enters(self, depth: int, name: str) -> bool:
        """Whether files below a folder of this name, at this depth, may match."""
        if name.startswith(".") and not self.hidden:
            return False
        if depth >= self.bounded:
            return ANY_DEPTH in self.parts
        return self._folders[depth].fullmatch(name) is not None

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile(glob_translate("/".join(self.parts)))

    @cached_property
    def _folders(self) -> list[re.Pattern[str]]:
        return [re.compile(glob_translate(part)) for part in self.parts[: self.bounded]]


EVERYTHING = Pattern((ANY_DEPTH,), hidden=True)


def split_pattern(pattern: str) -> tuple[str, Pattern]:
    """Splits a glob pattern before its first wildcard, into a folder and the rest.

    As in a shell, hidden names match only where a part of the pattern begins with a dot, and ``**``
    beside other characters is ``*``.
    """
    scheme, sign, path = pattern.rpartition("://")
    parts = PurePosixPath(path).parts
    fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    rest = tuple(one if one == ANY_DEPTH else re.sub(r"\*+", "*", one) for one in parts[fixed:])
    hidden = any(one.startswith(".") for one in rest)
    return scheme + sign + str(PurePosixPath(*parts[:fixed])), Pattern(rest, hidden)


def local_files(root: Path, pattern: Pattern, unreadable: Unreadable) -> Iterator[tuple[str, str]]:
    """Paths of files, and their paths relative to ``root``; links keep their own names.

    Links to folders are followed as deep as the pattern names folders.
    """
    top = root.resolve()

    def report(error: OSError) -> None:
        unreadable(str(error.filename), str(error.strerror))

    for folder, below, names in os.walk(top, onerror=report, followlinks=True):
        inside = Path(folder).relative_to(top)
        depth = len(inside.parts)
        below[:] = [
            name
            for name in sorted(below)
            if pattern.enters(depth, name)
            and (depth < pattern.bounded or not Path(folder, name).is_symlink())
        ]
        for name in sorted(names):
            key = (inside / name).as_posix()
            if pattern.matches(key):
                yield str(top / key), key


def remote_files(
    fs: AbstractFileSystem, root: str, pattern: Pattern, unreadable: Unreadable
) -> Iterator[tuple[str, str]]:
    """URIs of files, and their paths relative to ``root``, on a filesystem of fsspec.

    fsspec's own walk leaves out folders that cannot be read without saying so. Raises what ``fs``
    raises where ``root`` is such a folder.
    """
    top = root.rstrip("/")
    waiting = [root]
    while waiting:
        asked = waiting.pop()
        folder = asked.rstrip("/")
        try:
            entries = fs.ls(asked, detail=True)  # with its slash: some web servers insist on it
        except Exception as error:  # those of aiohttp and botocore are not OSErrors
            if folder == top:
                raise
            unreadable(fs.unstrip_protocol(folder), first_line(error))
            continue
        entered = []
        for entry in sorted(entries, key=lambda entry: str(entry["name"])):
            place = str(entry["name"]).rstrip("/")
            key = place.removeprefix(f"{top}/")
            if not place.startswith(f"{folder}/") or DOTS.search(key):
                continue  # the folder itself, or a web page's link to somewhere else
            *above, name = key.split("/")
            if entry["type"] == "directory":
                if pattern.enters(len(above), name):
                    entered.append(str(entry["name"]))
            elif pattern.matches(key):
                yield fs.unstrip_protocol(place), key
        waiting.extend(reversed(entered))
