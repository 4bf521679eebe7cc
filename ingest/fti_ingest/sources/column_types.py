"""The one type that each payload column gets, and what kept it from a narrower one."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, cast, get_args

from fti_ingest.sources.value_kinds import (
    ColumnType,
    Kind,
    convert,
    kind_of_text,
    kinds_of,
    shortened,
)
from fti_qdrant.errors import BadManifest
from fti_qdrant.gallery import IndexType
from fti_qdrant.gallery.points import Payload

INDEXABLE_NAME = re.compile(r"[\w-]+")
"""Other names would need quotes in a JSON path; such fields are stored, but not indexed."""

INDEX_TYPES: tuple[str, ...] = get_args(IndexType)
NUMBERS = frozenset(("integer", "float"))

EXAMPLES = 3
"""Values of each kind that are remembered of a column."""

NARROW_SHARES = {"keyword": 0.1, "float": 0.5, "mixed": 0.0}
"""Share of a column's values that must fit a narrower type, for the others to be told."""

MAX_FAILED_CHECKS = 20
"""After so many rows whose images cannot be read, rows are taken as they come."""


@dataclass(frozen=True)
class Column:
    """A payload column.

    Attributes:
        type: a ``ColumnType``, ``mixed`` (values of several types), ``object``, or ``empty``.
        narrower: the type that most values would fit, or nothing.
        because: some of the values that do not fit it, each with its line.
        exceptions: number of all of these.
        missing: number of values that are NaN or infinite, and left out.
    """

    name: str
    type: str
    narrower: str = ""
    because: tuple[str, ...] = ()
    exceptions: int = 0
    missing: int = 0

    def remarks(self) -> Iterator[str]:
        """What kept the column from a narrower type, and what it lacks."""
        if self.narrower:
            more = self.exceptions - len(self.because)
            others = f" and {more:,} more" if more else ""
            yield (
                f"column {self.name!r} is {self.type} and not {self.narrower}, because of "
                f"{', '.join(self.because)}{others}"
            )
        if self.missing:
            yield f"column {self.name!r}: {self.missing:,} NaN or infinite values are left out"


class Columns:
    """Looks at the payloads of a source, one after the other.

    Rows whose image cannot be read do not decide, as they are never stored.
    """

    def __init__(
        self,
        chosen: Mapping[str, ColumnType],
        texts: bool,
        image_problem: Callable[[str], str] = lambda uri: "",
    ):
        """Args:
        chosen: types that the user wants, by column.
        texts: values are texts of a CSV file, whose kind is to be found.
        image_problem: why the image at a URI cannot be read; empty where it can.
        """
        self._chosen = chosen
        self._kinds: Callable[[Any], Iterable[Kind]] = _text_kinds if texts else kinds_of
        self._texts = texts
        self._rows = ReadableRows(image_problem)
        self._good: dict[str, _Tally] = defaultdict(_Tally)
        self._bad: dict[str, _Tally] = defaultdict(_Tally)

    @property
    def problems(self) -> Mapping[str, str]:
        """Images that cannot be read, and why: those of rows that would have decided."""
        return self._rows.problems

    def see(self, payload: Payload, where: str, uri: str) -> None:
        """``where`` is the row's line, for messages, and ``uri`` its image."""
        for name, value in payload.items():
            tally = self._good[name]
            for kind in self._kinds(value):
                known = kind in tally.counts or self._rows.has(uri)
                (tally if known else self._bad[name]).add(kind, value, where)

    def found(self) -> list[Column]:
        """The columns in the order of the source.

        Raises BadManifest where a type is chosen for a column that the source does not have.
        """
        unknown = [name for name in self._chosen if name not in self._good]
        if unknown:
            raise BadManifest(
                f"--type names the column {unknown[0]!r}, which the source does not have; its "
                f"columns are {', '.join(self._good) or 'none'}"
            )
        if self._rows.trusts_all:
            for name, tally in self._bad.items():
                self._good[name].merge(tally)
        return [
            self._column(name, good if good.counts else self._bad[name])
            for name, good in self._good.items()
        ]

    def _column(self, name: str, tally: _Tally) -> Column:
        found = _type_of_texts(set(tally.counts)) if self._texts else _type_of(set(tally.counts))
        type = self._chosen.get(name, found)
        missing = 0 if self._texts and type in ("keyword", "text") else tally.counts["nan"]
        if name in self._chosen:
            return Column(name, type, missing=missing)
        narrower, exceptions = tally.narrower(type)
        because = [one for kind in exceptions for one in tally.examples[kind]][:EXAMPLES]
        count = sum(tally.counts[kind] for kind in exceptions)
        return Column(name, type, narrower, tuple(because), count, missing)


class ReadableRows:
    """Which rows may decide types: those whose image can be read."""

    def __init__(self, image_problem: Callable[[str], str]):
        self._image_problem = image_problem
        self._last = ""
        self._passed = 0
        self.problems: dict[str, str] = {}

    @property
    def trusts_all(self) -> bool:
        """Whether no image could be read here; workers elsewhere may be able to."""
        return len(self.problems) >= MAX_FAILED_CHECKS and not self._passed

    def has(self, uri: str) -> bool:
        if uri not in (self._last, *self.problems) and len(self.problems) < MAX_FAILED_CHECKS:
            if problem := self._image_problem(uri):
                self.problems[uri] = problem
            else:
                self._passed, self._last = self._passed + 1, uri
        return uri not in self.problems


@dataclass
class _Tally:
    """How many values of each kind a column has, and some of them."""

    counts: Counter[Kind] = field(default_factory=Counter)
    examples: dict[Kind, list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, kind: Kind, value: Any, where: str) -> None:
        self.counts[kind] += 1
        if self.counts[kind] <= EXAMPLES:
            self.examples[kind].append(f"{shortened(value)} in {where}")

    def merge(self, other: _Tally) -> None:
        self.counts += other.counts
        for kind, values in other.examples.items():
            self.examples[kind] = (values + self.examples[kind])[:EXAMPLES]

    def narrower(self, type: str) -> tuple[str, list[Kind]]:
        """A narrower type that many values fit, and the kinds of those that do not."""
        name, fitting = self._most_frequent(type)
        exceptions = [kind for kind in self.counts if kind not in (*fitting, "nan")]
        count = sum(self.counts[kind] for kind in fitting)
        enough = NARROW_SHARES.get(type, 1.0) * self.counts.total()
        return (name, exceptions) if exceptions and 0 < count >= enough else ("", [])

    def _most_frequent(self, type: str) -> tuple[str, list[Kind]]:
        """The narrower type of most values, and the kinds that fit it."""
        if type == "float":
            return "integer", ["integer"]
        numbers: list[Kind] = ["integer", "float"]
        candidates = {
            "float" if self.counts["float"] else "integer": numbers,
            **{kind: [kind] for kind in self.counts if kind not in (*numbers, "nan", type)},
        }
        return max(candidates.items(), key=lambda pair: sum(self.counts[kind] for kind in pair[1]))


def index_types(columns: Iterable[Column]) -> dict[str, IndexType]:
    """The columns that Qdrant can index."""
    return {
        one.name: cast(IndexType, one.type)
        for one in columns
        if one.type in INDEX_TYPES and INDEXABLE_NAME.fullmatch(one.name)
    }


def convert_payload(payload: Payload, types: Mapping[str, ColumnType]) -> Payload:
    """A payload with values of these types, without missing ones.

    Raises ValueError, with column and value, where a value cannot be of its type.
    """
    converted = dict(payload)
    for name in types.keys() & payload.keys():
        try:
            converted[name] = convert(payload[name], types[name])
        except ValueError as error:
            raise ValueError(f"column {name!r}: {error}") from None
    return {name: value for name, value in converted.items() if value is not None}


def types_of_texts(columns: Iterable[Column]) -> dict[str, ColumnType]:
    """What the texts of a CSV file are to become; those that are texts stay."""
    return {
        one.name: cast(ColumnType, one.type)
        for one in columns
        if one.type not in ("keyword", "text", "empty")
    }


def _text_kinds(text: str | None) -> tuple[Kind, ...]:
    return () if text is None else (kind_of_text(text),)


def _type_of_texts(kinds: set[Kind]) -> str:
    """``nan`` is a missing number among numbers and a text among texts."""
    certain = kinds - {"nan"}
    if certain and certain <= NUMBERS:
        return "float" if "float" in certain else "integer"
    if certain == {"bool"}:
        return "bool"
    return "keyword" if kinds else "empty"


def _type_of(kinds: set[Kind]) -> str:
    certain = kinds - {"nan"}
    if len(certain) > 1:
        return "float" if certain <= NUMBERS else "mixed"
    return next(iter(certain), "empty")
