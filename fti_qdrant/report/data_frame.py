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


def data_frame(hits: Hits) -> pandas.DataFrame:
    """See ``Hits.to_pandas``."""
    try:
        import pandas
    except ImportError:
        raise FtiError(
            "to_pandas needs pandas: pip install pandas, or pip install 'fti-qdrant[notebook]'"
        ) from None

    names = list(dict.fromkeys(name for hit in hits for name in hit.payload))
    columns: dict[str, list[Any]] = {own: [getattr(hit, own) for hit in hits] for own in OWN[:3]}
    columns |= {
        _column(name, {*OWN, *names} - {name}): [hit.payload.get(name) for hit in hits]
        for name in names
    }
    if any(hit.vector is not None for hit in hits):
        columns["vector"] = [hit.vector for hit in hits]
    return pandas.DataFrame({name: _series(values) for name, values in columns.items()})


def _column(name: str, taken: Collection[str]) -> str:
    """The name of a payload field's column."""
    while name in taken:
        name = f"payload.{name}"
    return name


def _series(values: list[Any]) -> pandas.Series:
    """Without missing values numpy's types; else those of pandas, which keep integers exact."""
    import pandas

    series = pandas.Series(values, dtype=object)
    missing = any(value is None for value in values)
    return series.convert_dtypes() if missing else series.infer_objects()
