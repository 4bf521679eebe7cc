"""What a gallery stores about how scores relate to the chance that a hit is right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fti_qdrant.atomic_files import write_text
from fti_qdrant.errors import CheckpointError, OutputUnavailable, first_line
from fti_qdrant.gallery.chance_map import ChanceMap
from fti_qdrant.model.fingerprint import Fingerprint

if TYPE_CHECKING:
    from typing_extensions import Self

QueryKind = Literal["image and text", "image", "text"]
"""What a query is made of. Those of one kind alone have other cosines, and other right answers."""


class QueryMaker(BaseModel):
    """What makes query vectors: vectors of two makers have scores that cannot be compared.

    Attributes:
        composer: its name.
        kind: what the queries are made of.
        options: of the composer, all of them.
        fingerprint: of the model.
        inverter: hash of the weights of its inverter, for a composer that needs one.
        vocabulary: hash of the words that the model reads, where it has learned few.
    """

    model_config = ConfigDict(frozen=True)

    composer: str
    kind: QueryKind
    options: dict[str, Any]
    fingerprint: Fingerprint
    inverter: str | None = None
    vocabulary: str | None = None

    def difference(self, other: QueryMaker) -> str | None:
        """In what the two differ, in words; None where their scores can be compared."""
        if self.composer != other.composer:
            return "composer"
        if not self.fingerprint.matches(other.fingerprint):
            return "model"
        if self.inverter != other.inverter:
            return "inverter"
        if self.vocabulary != other.vocabulary:
            return "vocabulary of the model"
        if self.kind != other.kind:
            return "kind of query"
        if self.options != other.options:
            return "options of the composer"
        return None


class ComposerCalibration(BaseModel):
    """The chances of one composer's hits.

    The event: a hit among the first ``depth`` ones of a query, its reference images left out, is
    one of the query's right answers. The chance is that of all judged hits with about this cosine.
    Of a hit further down, or of a search with a filter, it is an estimate by the cosine alone.

    Attributes:
        maker: of the queries; the map holds for others of the same maker.
        chances: cosine -> chance.
        depth: how many hits of each query were judged, at most.
        queries, hits, right: how many queries there were, judged hits of them, and right ones.
        most_references: reference images of one query, at most.
        fitted_on: the benchmark, or the file of the user's own queries.
        ece, brier: out of fold, on queries that were not used to fit; see ``calibration``.
    """

    model_config = ConfigDict(frozen=True)

    maker: QueryMaker
    chances: ChanceMap
    depth: int = Field(ge=1)
    queries: int = Field(ge=1)
    hits: int = Field(ge=1)
    right: int = Field(ge=0)
    most_references: int = Field(ge=0)
    fitted_on: str
    ece: float
    brier: float
    made: datetime


class Calibration(BaseModel):
    """The maps of all composers that were calibrated; at first none.

    Attributes:
        problem: why the stored one cannot be read, and what to do; empty where it can.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    composers: tuple[ComposerCalibration, ...] = ()
    problem: str = Field(default="", exclude=True)

    @classmethod
    def stored(cls, data: Mapping[str, Any] | str | bytes | None, where: str) -> Self:
        """What a gallery stores. Where it cannot be read, an empty one that says so.

        A gallery can be searched all the same: its hits have no confidence.
        """
        try:
            if data is None:
                return cls()
            if isinstance(data, (str, bytes)):
                return cls.model_validate_json(data)
            return cls.model_validate(data)
        except ValidationError as error:
            return cls(problem=f"the calibration of {where} cannot be read: {_reason(error)}")

    @classmethod
    def read(cls, path: Path | str) -> Self:
        """A file that ``write`` wrote. Raises CheckpointError."""
        try:
            return cls.model_validate_json(Path(path).read_bytes())
        except OSError as error:
            raise CheckpointError(
                f"the calibration {str(path)!r} cannot be read: {error.strerror}"
            ) from error
        except ValidationError as error:
            raise CheckpointError(
                f"{str(path)!r} is not a calibration that fti-eval calibrate wrote: "
                f"{_reason(error)}"
            ) from error

    def write(self, path: Path | str) -> None:
        """Replaces a file. Raises OutputUnavailable."""
        try:
            write_text(Path(path), self.model_dump_json(indent=1) + "\n")
        except OSError as error:
            raise OutputUnavailable(
                f"the calibration {str(path)!r} cannot be written: {error.strerror}"
            ) from error

    def updated(self, new: Iterable[ComposerCalibration]) -> Self:
        """With new maps, each in place of that of the same maker."""
        added = list(new)
        kept = [
            one
            for one in self.composers
            if all(one.maker.difference(other.maker) is not None for other in added)
        ]
        return type(self)(composers=(*kept, *added))

    def find(self, maker: QueryMaker) -> ComposerCalibration | str:
        """The map of a maker, or why there is none."""
        there = [one for one in self.composers if one.maker.composer == maker.composer]
        if not there:
            named = ", ".join(sorted({one.maker.composer for one in self.composers}))
            return self.problem or (
                f"calibrated composers are {named}" if named else "nothing is calibrated"
            )
        differences = {one.maker.difference(maker): one for one in there}
        if None in differences:
            return differences[None]
        what, one = next(iter(differences.items()))
        return f"it was calibrated with another {what}{_described(str(what), one.maker, maker)}"


def _described(what: str, stored: QueryMaker, asked: QueryMaker) -> str:
    """The two values, where they say something to a reader."""
    if what == "kind of query":
        return f" ({stored.kind}; this query is {asked.kind})"
    if what == "options of the composer":
        return f" ({_options(stored.options)}; this query has {_options(asked.options)})"
    if what == "model":
        return f" ({stored.fingerprint.model}, weights {stored.fingerprint.weights})"
    return ""


def _options(options: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value}" for name, value in options.items()) or "none"


def _reason(error: ValidationError) -> str:
    first = error.errors()[0]
    place = ".".join(map(str, first["loc"]))
    return first_line(ValueError(f"{place}: {first['msg']}" if place else first["msg"]))
