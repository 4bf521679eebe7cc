"""Results as a pandas data frame."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from fti_qdrant.errors import FtiError
from fti_qdrant.query import Hits

if TYPE_CHECKING:
    import pandas

OWN = ("id", "score", "uri", "vector")
"""Columns that are not of the payload."""

CONFIDENCE = "confidence"
"""One more, of hits of a calibrated gallery; of others, the payload may have this name."""


def data_frame(hits: Hits) -> pandas.DataFrame:
    """See ``Hits.to_pandas``."""
    try:
        import pandas
    except ImportError:
        raise FtiError(
            "to_pandas needs pandas: pip install pandas, or pip install 'fti-qdrant[notebook]'"
        ) from None

    calibrated = any(hit.confidence is not None for hit in hits)
    own_names = {*OWN, CONFIDENCE} if calibrated else {*OWN}
    names = list(dict.fromkeys(name for hit in hits for name in hit.payload))
    columns: dict[str, list[Any]] = {own: [getattr(hit, own) for hit in hits] for own in OWN[:3]}
    columns |= {
        _column(name, own_names | {*names} - {name}): [hit.payload.get(name) for hit in hits]
        for name in names
    }
    frame = pandas.DataFrame({name: _series(values) for name, values in columns.items()})
    if calibrated:
        frame[CONFIDENCE] = [hit.confidence for hit in hits]
    if any(hit.vector is not None for hit in hits):
        frame["vector"] = [hit.vector for hit in hits]
    return frame


def _column(name: str, others: Collection[str]) -> str:
    """The name of a payload field's column, which is none of the others."""
    while name in others:
        name = f"payload.{name}"
    return name


def _series(values: list[Any]) -> pandas.Series:
    """The values as one type, or as they are where that would change one.

    Integers with gaps become pandas' own integers: numpy has none with gaps.
    """
    import pandas

    gaps = {type(value) for value in values} == {int, type(None)}
    plain = pandas.Series(values, dtype=object)
    typed = pandas.Series(pandas.array(values)) if gaps else plain.infer_objects()
    same = all(new == old for new, old in zip(typed, values) if old is not None)
    return typed if same else plain
