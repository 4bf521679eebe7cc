"""Ranked lists that any system may have written, checked query by query."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from fti_qdrant.benchmarks.base import DEPTH, Ranked
from fti_qdrant.errors import BadPredictions


def number_id(id: str | int) -> str:
    """An image id that is a number, however it is written. Raises ValueError."""
    if isinstance(id, str) and not (id.isascii() and id.isdigit()):
        raise ValueError(id)
    if int(id) < 0:
        raise ValueError(id)
    return str(int(id))


def ranked_lists(
    data: Any,
    queries: Sequence[str],
    known: Collection[str] | None = None,
    as_id: Callable[[str | int], str] = str,
) -> list[list[str]]:
    """``{query: [image, ...]}`` -> lists in the order of ``queries``; numbers become texts.

    Args:
        known: ids of the gallery's images, where they are known.
        as_id: the one spelling of an id; raises ValueError for what is none.

    Raises BadPredictions: not such an object, or queries or images missing, unknown or doubled.
    """
    if not isinstance(data, Mapping):
        raise BadPredictions(
            f"the ranked lists are a {type(data).__name__}; want an object: query -> list of images"
        )
    missing = [query for query in queries if query not in data]
    if missing:
        raise BadPredictions(
            f"query {missing[0]!r} has no ranked list (nor have {len(missing) - 1} of "
            f"{len(queries)} more)"
        )
    strange = sorted(set(data) - set(queries))
    if strange:
        raise BadPredictions(
            f"query {strange[0]!r} is not of this split ({len(strange)} such); is it another one's?"
        )
    return [ranked_list(data[query], query, known, as_id) for query in queries]


def ranked_list(
    found: Any,
    query: str,
    known: Collection[str] | None = None,
    as_id: Callable[[str | int], str] = str,
) -> list[str]:
    """One query's images as ids. Raises BadPredictions, naming query and image."""
    if not isinstance(found, Sequence) or isinstance(found, (str, bytes)):
        raise BadPredictions(f"query {query!r}: {found!r:.60} is not a list of images")
    ids: dict[str, None] = {}
    for one in found:
        try:
            if not isinstance(one, (str, int)) or isinstance(one, bool):
                raise ValueError(one)
            id = as_id(one)
        except ValueError:
            raise BadPredictions(
                f"query {query!r}: {one!r:.60} is not the id of an image"
            ) from None
        if id in ids:
            raise BadPredictions(f"query {query!r}: image {id!r} is in its list twice")
        if known is not None and id not in known:
            raise BadPredictions(f"query {query!r}: the gallery has no image {id!r}")
        ids[id] = None
    return list(ids)


def short_lists(ranked: Ranked) -> list[str]:
    """A note where lists end before the deepest measure looks."""
    short = sum(len(found) < DEPTH for found in ranked.images or ())
    return [f"{short} lists hold fewer than {DEPTH} images; what they lack is missed"] * bool(short)
