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

Report = Callable[[str, str], None]
"""Called with a folder that is not entered, and the reason."""

ANY_DEPTH = "**"
MAX_LINKS = 3
"""Links to folders that one path goes through: folders that all link to each other have no end."""

DOTS = re.compile(r"(^|/)\.{0,2}(/|$)")
"""Empty, ``.`` and ``..`` parts of a path, as the links of a web page may have them."""


@dataclass(frozen=True)
class Pattern:
    """A glob pattern below a folder; ``**`` stands for any number of folders.

    A part of the pattern also matches the name that is written exactly so: ``photos [old]``.

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
        names = path.split("/")
        hides = not self.hidden and any(name.startswith(".") for name in names)
        return not hides and self._match(names, 0)

    def enters(self, depth: int, name: str) -> bool:
        """Whether files below a folder of this name, at this depth, may match."""
        if name.startswith(".") and not self.hidden:
            return False
        if depth >= self.bounded:
            return ANY_DEPTH in self.parts
        return self._part_matches(depth, name)

    def _match(self, names: list[str], at: int) -> bool:
        """Whether these names are what the parts from ``at`` on describe."""
        if at == len(self.parts):
            return not names
        if self.parts[at] != ANY_DEPTH:
            matches = bool(names) and self._part_matches(at, names[0])
            return matches and self._match(names[1:], at + 1)
        if at == len(self.parts) - 1:
            return True
        return any(self._match(names[skipped:], at + 1) for skipped in range(len(names)))

    def _part_matches(self, at: int, name: str) -> bool:
        return name == self.parts[at] or self._compiled[at].fullmatch(name) is not None

    @cached_property
    def _compiled(self) -> list[re.Pattern[str]]:
        return [re.compile(glob_translate(part)) for part in self.parts]


EVERYTHING = Pattern((ANY_DEPTH,), hidden=True)


def split_pattern(pattern: str, is_folder: Callable[[str], bool]) -> tuple[str, Pattern]:
    """Splits a glob pattern before its first wildcard, into a folder and the rest.

    As in a shell, hidden names match only where a part of the pattern begins with a dot, and ``**``
    beside other characters is ``*``. Brackets in the name of a folder that exists are no wildcard.
    """
    scheme, sign, path = pattern.rpartition("://")
    parts = PurePosixPath(path).parts
    fixed = 0
    while fixed < len(parts) - 1 and _is_plain(
        scheme + sign + str(PurePosixPath(*parts[: fixed + 1])), parts[fixed], is_folder
    ):
        fixed += 1
    rest = tuple(one if one == ANY_DEPTH else re.sub(r"\*+", "*", one) for one in parts[fixed:])
    hidden = any(one.startswith(".") for one in rest)
    return scheme + sign + str(PurePosixPath(*parts[:fixed])), Pattern(rest, hidden)


def _is_plain(path: str, part: str, is_folder: Callable[[str], bool]) -> bool:
    """Whether a part of a pattern, the last one of this path, is a name and no wildcard."""
    return not glob.has_magic(part) or ("*" not in part and "?" not in part and is_folder(path))


def local_files(
    root: Path, pattern: Pattern, unreadable: Report, loop: Report
) -> Iterator[tuple[str, str]]:
    """Paths of files, and their paths relative to ``root``; links keep their own names.

    Links to folders are followed: as deep as the pattern names folders, and below that unless they
    lead back to a folder above them, which is reported as a ``loop``.
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
            and (depth < pattern.bounded or _leads_on(top, inside / name, unreadable, loop))
        ]
        for name in sorted(names):
            key = (inside / name).as_posix()
            if pattern.matches(key):
                yield str(top / key), key


def _leads_on(top: Path, inside: Path, unreadable: Report, loop: Report) -> bool:
    """Whether a folder is to be entered: always, unless it is a link into what is around it."""
    path = top / inside
    if not path.is_symlink():
        return True
    target = path.resolve()
    entered = {(top / above).resolve() for above in inside.parents}
    if target in entered or path.parent.resolve().is_relative_to(target):
        loop(str(path), f"a link back to {str(target)!r}, a folder above it; it is not followed")
        return False
    links = sum((top / above).is_symlink() for above in inside.parents)
    if links == MAX_LINKS:
        unreadable(str(path), f"a link inside {links} others, one in the other; it is not followed")
        return False
    return True


def remote_files(
    fs: AbstractFileSystem, root: str, pattern: Pattern, unreadable: Report
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
