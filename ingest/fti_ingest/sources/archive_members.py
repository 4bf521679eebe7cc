"""The files inside tar and zip archives, with links resolved, listed without unpacking them."""

from __future__ import annotations

import posixpath
import stat
import tarfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from typing import IO, TypeVar

from fti_qdrant.errors import first_line
from fti_qdrant.images.filesystems import CHAIN

MOST_LINKS = 40
"""Links that lead to each other, as many as Linux follows."""

LONGEST_TARGET = 4096
"""Bytes of the path that a link in a zip leads to."""

UNREADABLE = (zipfile.BadZipFile, zlib.error, RuntimeError)
"""Raised for one file in a zip: damaged, encrypted, or compressed by an unknown method."""

Found = TypeVar("Found", tarfile.TarInfo, zipfile.ZipInfo)
Read = Callable[[int], bytes]
"""Reads so many bytes from a file's begin."""


@dataclass(frozen=True)
class Member:
    """A file inside an archive.

    Attributes:
        name: its path there.
        uri: fsspec's chained URI; where the name does not say which bytes, it ends with that.
        read: raises what ``zipfile`` raises.
        problem: why it cannot be read; empty where it can.
    """

    name: str
    uri: str
    size: int
    read: Read
    problem: str = ""

    @property
    def sample(self) -> str:
        """WebDataset's key: the path up to the first dot of the file's name."""
        folder, slash, name = self.name.rpartition("/")
        bare = name.lstrip(".")
        return folder + slash + bare.split(".")[0]

    @property
    def stem(self) -> str:
        """The path without its last suffix."""
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + (name.rpartition(".")[0] or name)

    @property
    def suffix(self) -> str:
        """The last suffix, without its dot, in small letters."""
        return self.name.rpartition("/")[2].rpartition(".")[2].lower()


def unreadable_member(name: str, uri: str, problem: str) -> Member:
    """A member without bytes."""
    return Member(name, uri, 0, lambda size: b"", problem)


def tar_members(file: IO[bytes], place: str) -> Iterator[Member]:
    """The members of a tar, in its order. Raises what ``tarfile`` raises."""
    links = TarLinks(file)
    for info in _tar_infos(file):
        name = info.name.removeprefix("./")
        uri = f"tar://{info.name}{CHAIN}{place}"
        if info.isdir():
            continue
        found: tarfile.TarInfo | str = info
        if info.issym() or info.islnk():
            found = links.target(info)
        elif not info.isreg():
            found = "a pipe or a device, not a file"
        if not isinstance(found, str) and found.issparse():
            found = "a sparse file, which has holes; unpack the archive"
        if isinstance(found, str):
            yield unreadable_member(name, uri, found)
            continue
        begin, size = found.offset_data, found.size
        read = partial(_read_span, file, begin, size)
        yield Member(name, f"{uri}#bytes={begin}-{begin + size}", size, read)


def _tar_infos(file: IO[bytes]) -> Iterator[tarfile.TarInfo]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep all of them
            yield info


def _read_span(file: IO[bytes], begin: int, size: int, most: int) -> bytes:
    back = file.tell()
    file.seek(begin)
    data = file.read(min(size, most))
    file.seek(back)
    return data


class TarLinks:
    """Finds what hard and symbolic links lead to; most archives have none, and pay nothing."""

    def __init__(self, file: IO[bytes]):
        self._file = file

    def target(self, info: tarfile.TarInfo) -> tarfile.TarInfo | str:
        """The file that a link leads to, or why it leads to none."""
        return _followed(_normal(info.name), self._files, self._links)

    @cached_property
    def _all(self) -> tuple[dict[str, tarfile.TarInfo], dict[str, str]]:
        files: dict[str, tarfile.TarInfo] = {}
        links: dict[str, str] = {}
        back = self._file.tell()
        self._file.seek(0)
        try:
            for info in _tar_infos(self._file):
                name = _normal(info.name)
                if info.isreg():
                    files.setdefault(name, info)
                elif info.islnk():
                    links.setdefault(name, _normal(info.linkname))
                elif info.issym():
                    links.setdefault(name, _beside(name, info.linkname))
        except (tarfile.TarError, EOFError, OSError):  # the walk through the archive reports it
            pass
        finally:
            self._file.seek(back)
        return files, links

    @property
    def _files(self) -> dict[str, tarfile.TarInfo]:
        return self._all[0]

    @property
    def _links(self) -> dict[str, str]:
        return self._all[1]


def zip_members(file: IO[bytes], place: str) -> Iterable[Member]:
    """Members sorted by sample: zip -r stores files in the order of the folder."""
    archive = zipfile.ZipFile(file)  # stays open while its members are read
    infos = [info for info in archive.infolist() if not info.is_dir()]
    counts = Counter(info.filename for info in infos)
    files, links = _zip_files_and_links(archive, infos)
    found: list[Member] = []
    for info in infos:
        name = info.filename
        end = f"#at={info.header_offset}" if counts[name] > 1 else ""
        uri = f"zip://{name}{CHAIN}{place}{end}"
        if not stat.S_ISLNK(info.external_attr >> 16):
            member = Member(name, uri, info.file_size, partial(_read_member, archive, info))
        elif isinstance(target := _followed(_normal(name), files, links), str):
            member = unreadable_member(name, uri, target)
        else:
            uri = f"zip://{target.filename}{CHAIN}{place}#at={target.header_offset}"
            member = Member(name, uri, target.file_size, partial(_read_member, archive, target))
        found.append(member)
    return sorted(found, key=lambda member: member.sample)


def _zip_files_and_links(
    archive: zipfile.ZipFile, infos: list[zipfile.ZipInfo]
) -> tuple[dict[str, zipfile.ZipInfo], dict[str, str]]:
    files: dict[str, zipfile.ZipInfo] = {}
    links: dict[str, str] = {}
    for info in infos:
        name = _normal(info.filename)
        if stat.S_ISLNK(info.external_attr >> 16):
            links.setdefault(name, _zip_target(archive, info))
        else:
            files.setdefault(name, info)
    return files, links


def _zip_target(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> str:
    try:
        target = _read_member(archive, info, LONGEST_TARGET).decode(errors="replace")
    except UNREADABLE as error:
        return f"somewhere ({first_line(error)})"
    return _beside(_normal(info.filename), target)


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo, most: int) -> bytes:
    with archive.open(info) as file:
        return file.read(most)


def _followed(name: str, files: Mapping[str, Found], links: Mapping[str, str]) -> Found | str:
    """What a link leads to, through other links, or why it leads to no file."""
    at = links.get(name, name)
    for _ in range(MOST_LINKS):
        if at in files and at != name:
            return files[at]
        if at not in links:
            return f"a link to {at!r}, which is no file in the archive"
        at = links[at]
    return f"a link to {links[name]!r}, which leads back to itself"


def _normal(name: str) -> str:
    return posixpath.normpath(name).lstrip("/")


def _beside(name: str, target: str) -> str:
    """Where a symbolic link leads; absolute ones leave the archive."""
    if target.startswith("/"):
        return target
    return posixpath.normpath(posixpath.join(posixpath.dirname(name), target))
