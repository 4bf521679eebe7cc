"""Images inside WebDataset tar shards and zip archives, listed without unpacking them."""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
import zlib
from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import IO, Any

import numpy as np

from fti_ingest.sources.filesystems import CHAIN, filesystem
from fti_ingest.sources.listing import Item, Listing, is_image_name
from fti_qdrant.errors import first_line

TAR, ZIP = ".tar", ".zip"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")
NOTES = (".json", ".txt", ".cls")
LARGEST_NOTE = 1_000_000
"""Bytes of a note beside an image."""

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)
UNREADABLE = (zipfile.BadZipFile, zlib.error, RuntimeError)
"""Raised for one file in a zip: damaged, encrypted, or compressed by an unknown method."""


@dataclass(frozen=True)
class Member:
    """A file inside an archive.

    Attributes:
        name: its path there.
        uri: fsspec's chained URI; for a tar it ends with the byte range.
        read: returns all its bytes; for small files.
    """

    name: str
    uri: str
    size: int
    read: Callable[[], bytes]

    @property
    def sample(self) -> str:
        """WebDataset's key: the path up to the first dot of the file's name."""
        folder, slash, name = self.name.rpartition("/")
        return folder + slash + name.split(".")[0]


def is_archive(name: str) -> bool:
    return name.lower().endswith((TAR, ZIP, *COMPRESSED))


def add_archive(listing: Listing, place: str, key: str) -> None:
    """Adds the images of an archive; their keys begin with ``key``, the archive's own.

    In a WebDataset sample, the ``.json`` beside an image is its payload, and ``.txt`` and ``.cls``
    are fields of these names. A damaged archive is listed as far as it can be read.
    """
    if place.lower().endswith(COMPRESSED):
        listing.reject(
            place, "a compressed tar cannot be read from the middle; unpack it to a .tar"
        )
        return
    members = _tar_members if place.lower().endswith(TAR) else _zip_members
    fs, path = filesystem(place)
    try:
        with fs.open(path, "rb") as file:
            scattered = Scattered()
            for _, group in groupby(members(file, place), key=lambda member: member.sample):
                sample = list(group)
                _add_sample(listing, sample, key)
                scattered.see(sample)
        if scattered.count():
            listing.reject(
                place,
                f"the files of {scattered.count():,} samples are not next to each other, so their "
                "payload cannot be found; write the archive again with tar --sort=name",
            )
    except (*DAMAGED, NotImplementedError) as error:
        listing.reject(place, f"the archive cannot be read to its end: {first_line(error)}")


def _add_sample(listing: Listing, members: list[Member], key: str) -> None:
    images = [member for member in members if is_image_name(member.name)]
    if not images:
        return
    try:
        payload = _payload(members)
    except ValueError as error:
        for image in images:
            listing.reject(image.uri, str(error))
        return
    for image in images:
        listing.add(Item(f"{key}/{image.name}", image.uri, payload))


def _payload(members: Iterable[Member]) -> dict[str, Any]:
    """The payload of a sample's images. Raises ValueError."""
    payload: dict[str, Any] = {}
    for member in members:
        kind = member.name.rpartition(".")[2].lower()
        if not member.name.lower().endswith(NOTES):
            continue
        if member.size > LARGEST_NOTE:
            raise ValueError(f"{member.name!r} beside it is over {LARGEST_NOTE:,} bytes")
        try:
            text = member.read().decode(errors="replace").strip()
        except UNREADABLE as error:
            raise ValueError(f"{member.name!r} beside it cannot be read: {error}") from None
        try:
            value = int(text) if kind == "cls" else json.loads(text) if kind == "json" else text
        except (ValueError, RecursionError) as error:
            raise ValueError(f"{member.name!r} beside it cannot be parsed: {error}") from None
        if kind != "json":
            payload[kind] = value
        elif isinstance(value, dict):
            payload.update(value)
        else:
            raise ValueError(f"{member.name!r} beside it is not a JSON object")
    return payload


def _tar_members(file: IO[bytes], place: str) -> Iterator[Member]:
    with tarfile.open(fileobj=file, mode="r:") as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # tarfile would keep all of them
            if not info.isreg() or info.issparse():
                continue
            begin, end = info.offset_data, info.offset_data + info.size

            def read(begin: int = begin, size: int = info.size) -> bytes:
                back = file.tell()
                file.seek(begin)
                data = file.read(size)
                file.seek(back)
                return data

            uri = f"tar://{info.name}{CHAIN}{place}#bytes={begin}-{end}"
            yield Member(info.name.removeprefix("./"), uri, info.size, read)


def _zip_members(file: IO[bytes], place: str) -> Iterable[Member]:
    """Members sorted by sample: zip -r stores files in the order of the folder."""
    archive = zipfile.ZipFile(file)  # stays open while its members are read
    members = [
        Member(
            info.filename,
            f"zip://{info.filename}{CHAIN}{place}",
            info.file_size,
            partial(archive.read, info),
        )
        for info in archive.infolist()
        if not info.is_dir()
    ]
    return sorted(members, key=lambda member: (member.sample, member.name))


class Scattered:
    """Counts the samples whose image and notes are not next to each other; 8 bytes each."""

    def __init__(self) -> None:
        self._images, self._notes = array("Q"), array("Q")

    def see(self, members: list[Member]) -> None:
        image = any(is_image_name(member.name) for member in members)
        note = any(member.name.lower().endswith(NOTES) for member in members)
        if image == note:
            return
        name = members[0].sample.encode(errors="surrogateescape")
        short = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
        (self._images if image else self._notes).append(short)

    def count(self) -> int:
        return len(np.intersect1d(self._images, self._notes))
