"""Images inside WebDataset tar shards and zip archives, listed without unpacking them."""

from __future__ import annotations

import hashlib
import tarfile
import zipfile
import zlib
from array import array
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

import numpy as np

from fti_ingest.sources.archive_members import UNREADABLE, Member, tar_members, zip_members
from fti_ingest.sources.image_files import (
    NO_IMAGE,
    FileKind,
    is_hidden,
    is_image,
    kind_by_name,
)
from fti_ingest.sources.listing import Listing
from fti_ingest.sources.sidecars import NOTE_SUFFIXES, Sidecars
from fti_ingest.sources.source import Item
from fti_qdrant.errors import first_line
from fti_qdrant.images.fetch import HEAD_BYTES
from fti_qdrant.images.filesystems import filesystem

TAR, ZIP = ".tar", ".zip"
COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")

DAMAGED = (tarfile.TarError, zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError)


def is_archive(name: str) -> bool:
    return name.lower().endswith((TAR, ZIP, *COMPRESSED))


def add_archive(listing: Listing, place: str, key: str) -> None:
    """Adds the images of an archive; their keys begin with ``key``, the archive's own.

    The notes beside an image are its payload, by the rules of ``sidecars``. A damaged archive is
    listed as far as it can be read.
    """
    if place.lower().endswith(COMPRESSED):
        listing.reject(
            place, "a compressed tar cannot be read from the middle; unpack it to a .tar"
        )
        return
    members = tar_members if place.lower().endswith(TAR) else zip_members
    fs, path = filesystem(place)
    adding = _Archive(listing, key)
    try:
        with fs.open(path, "rb") as file:
            for _, group in groupby(members(file, place), key=lambda member: member.sample):
                adding.add(list(group))
        adding.conclude(place)
    except (*DAMAGED, NotImplementedError) as error:
        listing.reject(place, f"the archive cannot be read to its end: {first_line(error)}")


class _Archive:
    """Adds an archive's files to a listing, sample by sample."""

    def __init__(self, listing: Listing, key: str):
        self.listing = listing
        self.key = key
        self.scattered = Scattered()
        self.unused = 0
        self.first_unused = ""

    def add(self, sample: list[Member]) -> None:
        """Files that are the same up to their first dot, as they follow each other."""
        used = [one for one in sample if one.suffix in NOTE_SUFFIXES or self._is_image(one)]
        notes = [one for one in used if one.suffix in NOTE_SUFFIXES]
        self.scattered.see(sample[0].sample, len(notes) < len(used), bool(notes))
        if len(notes) == len(used):
            for note in notes:
                self.listing.leave_out(self._key(note), note.uri)
            return
        for version in _versions(used):
            images = [one for one in version if one.suffix not in NOTE_SUFFIXES]
            self._add_images(images, [one for one in version if one.suffix in NOTE_SUFFIXES])

    def conclude(self, place: str) -> None:
        """Tells of notes that no image has got."""
        if self.scattered.count():
            self.listing.reject(
                place,
                f"the files of {self.scattered.count():,} samples are not next to each other, so "
                "their payload cannot be found; write the archive again with tar --sort=name",
            )
        if self.unused:
            more = f" and {self.unused - 1:,} more" if self.unused > 1 else ""
            self.listing.note(
                place,
                f"no image has the notes of {self.first_unused!r}{more}: it is not clear to which "
                "it belongs; give each the name of its image",
            )

    def _add_images(self, images: Sequence[Member], notes: Sequence[Member]) -> None:
        sidecars = Sidecars(images, notes)
        for image in images:
            item = Item(self._key(image), image.uri)
            try:
                self.listing.add(Item(item.key, item.uri, sidecars.payload(image)))
            except ValueError as error:
                self.listing.reject_image(item, str(error))
                sidecars.unused.clear()
        for note in notes:
            if note.name in sidecars.unused:
                self.unused += 1
                self.first_unused = self.first_unused or note.name

    def _is_image(self, member: Member) -> bool:
        """Whether it goes on as an image; all other files are counted, and told where need be."""
        key, kind = self._key(member), kind_by_name(member.name)
        if kind is FileKind.OTHER:
            self.listing.leave_out(key, member.uri)
        elif member.problem and kind is FileKind.IMAGE:
            self.listing.reject_image(Item(key, member.uri), member.problem)
        elif member.problem:
            self.listing.leave_out(key, member.uri, member.problem)
        elif is_archive(member.name):
            self.listing.leave_out(key, member.uri, "an archive inside an archive; unpack it")
        elif kind is FileKind.IMAGE:
            return True
        else:
            return self._is_image_by_content(member)
        return False

    def _is_image_by_content(self, member: Member) -> bool:
        key = self._key(member)
        try:
            head = member.read(HEAD_BYTES)
        except UNREADABLE as error:
            self.listing.leave_out(key, member.uri, f"it cannot be read: {first_line(error)}")
            return False
        if is_image(head):
            return True
        surely_none = not head or is_hidden(member.name)
        self.listing.leave_out(key, member.uri, "" if surely_none else NO_IMAGE)
        return False

    def _key(self, member: Member) -> str:
        return f"{self.key}/{member.name}"


def _versions(members: Sequence[Member]) -> list[list[Member]]:
    """A sample's files, apart where they occur twice, as ``tar --append`` makes them.

    One version of a file must not have the notes of another. Where each file occurs equally often,
    the first ones belong together, and so on; else those that stand together do.
    """
    counts = Counter(one.name for one in members)
    versions: list[list[Member]] = [[] for _ in range(max(counts.values()))]
    seen: Counter[str] = Counter()
    if len(set(counts.values())) == 1:
        for one in members:
            versions[seen[one.name]].append(one)
            seen[one.name] += 1
        return versions
    versions = [[]]
    for one in members:
        if seen[one.name]:
            versions.append([])
            seen.clear()
        versions[-1].append(one)
        seen[one.name] += 1
    return versions


class Scattered:
    """Counts the samples whose image and notes are not next to each other; 8 bytes each."""

    def __init__(self) -> None:
        self._images, self._notes = array("Q"), array("Q")

    def see(self, sample: str, image: bool, note: bool) -> None:
        if image == note:
            return
        name = sample.encode(errors="surrogateescape")
        short = int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big")
        (self._images if image else self._notes).append(short)

    def count(self) -> int:
        return len(np.intersect1d(self._images, self._notes))
