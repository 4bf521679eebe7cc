"""The notes beside images in archives: which note belongs to which image, and what it says.

A note is a ``.json`` (payload fields), ``.txt`` or ``.cls`` (fields of these names). Of each kind,
an image has the notes of the first of these rules that finds any:

1. The note's name without its suffix is the image's whole name, or the image's name without its
   suffix: ``22.05.png.json`` and ``22.05.json`` belong to ``22.05.png`` alone. Where both have a
   field, the first one counts.
2. WebDataset's convention: both names are the same up to their first dot, and one of the two has
   nothing more before its suffix: ``7.json`` belongs to ``7.left.jpg`` and ``7.right.jpg``, and
   ``7.meta.json`` to ``7.jpg``. Notes that belong to an image by rule 1 are left out, and so are
   those that give one field two values.

Folders count: ``a/x.json`` does not belong to ``b/x.png``. A note that belongs to no image of its
sample is told.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from fti_ingest.sources.archive_members import UNREADABLE, Member
from fti_ingest.sources.text import utf8_text
from fti_qdrant.errors import first_line

JSON = "json"
NOTE_SUFFIXES = (JSON, "txt", "cls")
LARGEST_NOTE = 1_000_000
"""Bytes of a note beside an image."""

Fields = dict[str, Any]


class Sidecars:
    """The notes of one sample, and the payloads that they make for its images."""

    def __init__(self, images: Sequence[Member], notes: Sequence[Member]):
        named = {one.name for one in images} | {one.stem for one in images}
        self._owned: dict[tuple[str, str], list[Member]] = defaultdict(list)
        self._free: dict[str, list[Member]] = defaultdict(list)
        for note in notes:
            if note.stem in named:
                self._owned[note.stem, note.suffix].append(note)
            else:
                self._free[note.suffix].append(note)
        self._parsed: dict[str, Fields] = {}
        self.unused = {note.name for note in notes}
        """Names of the notes that belong to no image so far."""

    def payload(self, image: Member) -> Fields:
        """The payload of an image. Raises ValueError where a note of it cannot be used."""
        payload: Fields = {}
        for kind in NOTE_SUFFIXES:
            for note in self._own(image, kind) or self._conventional(image, kind):
                self.unused.discard(note.name)
                payload |= self._parse(note)
        return payload

    def _own(self, image: Member, kind: str) -> list[Member]:
        """By rule 1, the one that counts last."""
        names = dict.fromkeys((image.stem, image.name))
        return [
            note
            for name in names
            if (name, kind) in self._owned
            for note in self._agreeing(self._owned[name, kind])
        ]

    def _conventional(self, image: Member, kind: str) -> list[Member]:
        """By rule 2."""
        bare = image.stem == image.sample
        return self._agreeing([one for one in self._free[kind] if bare or one.stem == one.sample])

    def _agreeing(self, notes: list[Member]) -> list[Member]:
        """The notes; none of them where they give one field two values."""
        values: dict[str, str] = {}
        for note in notes if len(notes) > 1 else ():
            for name, value in self._parse(note).items():
                text = json.dumps(value, sort_keys=True)
                if values.setdefault(name, text) != text:
                    return []
        return notes

    def _parse(self, note: Member) -> Fields:
        if note.name not in self._parsed:
            try:
                self._parsed[note.name] = _fields(note)
            except ValueError as error:
                raise ValueError(f"{note.name!r} beside it {error}") from None
        return self._parsed[note.name]


def _fields(note: Member) -> Fields:
    """What a note says. Raises ValueError, with what is wrong, for the end of a sentence."""
    if note.problem:
        raise ValueError(f"cannot be read: {note.problem}")
    if note.size > LARGEST_NOTE:
        raise ValueError(f"is over {LARGEST_NOTE:,} bytes")
    try:
        text = utf8_text(note.read(LARGEST_NOTE)).strip()
    except UNREADABLE as error:
        raise ValueError(f"cannot be read: {first_line(error)}") from None
    except ValueError as error:
        raise ValueError(f"cannot be read: {error}") from None
    try:
        value = {"cls": int, "txt": str, JSON: json.loads}[note.suffix](text)  # type: ignore[operator]
    except (ValueError, RecursionError) as error:
        raise ValueError(f"cannot be parsed: {first_line(error)}") from None
    if note.suffix != JSON:
        return {note.suffix: value}
    if not isinstance(value, dict):
        raise ValueError("is not a JSON object")
    return value
