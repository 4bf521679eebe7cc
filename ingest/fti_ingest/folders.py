"""Folders walked one at a time, here or at a URI: all their files, or those that a glob matches."""

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

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

Unreadable = Callable[[str, str], None]
"""Is told a folder and the reason why it cannot be listed."""

ANY_DEPTH = "**"


@dataclass(frozen=True)
class Pattern:
    """A glob pattern below a folder; ``**`` stands for any number of folders.

    Attributes:
        parts: what stands between its slashes.
    """

    parts: tuple[str, ...]

    @cached_property
    def bounded(self) -> int:
        """So many folders down each has a pattern of its own."""
        return self.parts.index(ANY_DEPTH) if ANY_DEPTH in self.parts else len(self.parts) - 1

    def matches(self, path: str) -> bool:
        return self._whole.fullmatch(path) is not None

    def enters(self, depth: int, name: str) -> bool:
        """Whether files in a folder of this name, so many below the first, may match."""
        if depth >= self.bounded:
            return ANY_DEPTH in self.parts
        return self._folders[depth].fullmatch(name) is not None

    @cached_property
    def _whole(self) -> re.Pattern[str]:
        return re.compile(glob_translate("/".join(self.parts)))

    @cached_property
    def _folders(self) -> list[re.Pattern[str]]:
        return [re.compile(glob_translate(part)) for part in self.parts[: self.bounded]]


EVERYTHING = Pattern((ANY_DEPTH,))


def divided(pattern: str) -> tuple[str, Pattern]:
    """The folders of a glob pattern before its first wildcard, and the rest."""
    scheme, sign, path = pattern.rpartition("://")
    parts = PurePosixPath(path).parts
    fixed = next(n for n, part in enumerate(parts) if glob.has_magic(part))
    return scheme + sign + str(PurePosixPath(*parts[:fixed])), Pattern(parts[fixed:])


def files_here(root: Path, pattern: Pattern, unreadable: Unreadable) -> Iterator[tuple[str, str]]:
    """Places of files and their paths below ``root``; links keep their own names.

    Links to folders are followed as deep as the pattern names folders.
    """
    there = root.resolve()

    def told(error: OSError) -> None:
        unreadable(str(error.filename), str(error.strerror))

    for folder, below, names in os.walk(there, onerror=told, followlinks=True):
        inside = Path(folder).relative_to(there)
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
                yield str(there / key), key


def files_there(
    fs: AbstractFileSystem, root: str, pattern: Pattern, unreadable: Unreadable
) -> Iterator[tuple[str, str]]:
    """URIs of files and their paths below ``root``, which fsspec's ``fs`` knows.

    Its own walk is silent about folders that cannot be read. Raises FileNotFoundError.
    """
    waiting: list[tuple[str, tuple[str, ...]]] = [(root, ())]
    while waiting:
        folder, inside = waiting.pop()
        try:
            entries = fs.ls(folder, detail=True)
        except OSError as error:
            if isinstance(error, FileNotFoundError) and not inside:
                raise
            reason = (str(error) or type(error).__name__).splitlines()[0]
            unreadable(fs.unstrip_protocol(folder), reason)
            continue
        entered = []
        for entry in sorted(entries, key=lambda entry: str(entry["name"])):
            place = str(entry["name"]).rstrip("/")
            name = place.rpartition("/")[2]
            if place == folder.rstrip("/"):
                continue  # object stores list a folder in itself
            if entry["type"] == "directory":
                if pattern.enters(len(inside), name):
                    entered.append((place, (*inside, name)))
            elif pattern.matches(key := "/".join((*inside, name))):
                yield fs.unstrip_protocol(place), key
        waiting.extend(reversed(entered))
