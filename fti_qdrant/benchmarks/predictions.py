"""Ranked lists of any system, checked query by query."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from fti_qdrant.benchmarks.base import Benchmark
from fti_qdrant.benchmarks.records import Ranked
from fti_qdrant.errors import BadPredictions


def number_id(id: str | int) -> str:
    """A numeric image id in its one spelling, such as "7" for 7 and "007". Raises ValueError."""
    if isinstance(id, str) and not (id.isascii() and id.isdigit()):
        raise ValueError(id)
    if int(id) < 0:
        raise ValueError(id)
    return str(int(id))


def ranked_lists(
    data: Any,
    queries: Sequence[str],
    gallery: Collection[str] | None = None,
    as_id: Callable[[str | int], str] = str,
) -> list[list[str]]:
    """``{query: [image, ...]}`` -> lists in the order of ``queries``; numbers become texts.

    Args:
        gallery: ids of the gallery's images; None where they are not listed.
        as_id: the one spelling of an id; raises ValueError for what is not an id.

    Raises BadPredictions: not such an object, or queries or images missing, unknown or twice.
    """
    if not isinstance(data, Mapping):
        raise BadPredictions(
            f"the ranked lists are a {type(data).__name__}; expected an object, query -> list of "
            "images"
        )
    missing = [query for query in queries if query not in data]
    if missing:
        raise BadPredictions(
            f"query {missing[0]!r} has no ranked list (nor have {len(missing) - 1} more of the "
            f"{len(queries)} queries)"
        )
    unknown = sorted(set(data) - set(queries))
    if unknown:
        raise BadPredictions(
            f"query {unknown[0]!r} is not in this split (nor are {len(unknown) - 1} more); are the "
            "lists of another split?"
        )
    return [ranked_list(data[query], query, gallery, as_id) for query in queries]


def ranked_list(
    found: Any,
    query: str,
    gallery: Collection[str] | None = None,
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
        if gallery is not None and id not in gallery:
            raise BadPredictions(f"query {query!r}: the gallery has no image {id!r}")
        ids[id] = None
    return list(ids)


def short_lists(ranked: Ranked, benchmark: Benchmark) -> list[str]:
    """A note where lists are shorter than what the measures look at."""
    depths = [benchmark.depth(query) for query in benchmark.queries]
    short = [depth for found, depth in zip(ranked.images or (), depths) if len(found) < depth]
    if not short:
        return []
    fewer = f"{short[0]}" if len(set(short)) == 1 else f"{min(short)} to {max(short)}"
    return [
        f"{len(short)} lists have fewer than {fewer} images; an unlisted right answer is not found"
    ]


def other_lengths(
    lists: Mapping[str, Sequence[str]], least: Mapping[str, int], most: int | None = None
) -> list[str]:
    """Lists that a benchmark's server would refuse for their length, as one line or none.

    Args:
        lists: query -> images.
        least: query -> images that its list must have.
        most: images that it may have; None for any number.
    """
    wrong = [
        query
        for query, found in lists.items()
        if len(found) < least[query] or (most is not None and len(found) > most)
    ]
    if not wrong:
        return []
    first = wrong[0]
    wanted = f"{least[first]}" if most is not None else f"at least {least[first]}"
    return [
        f"{len(wrong):,} of {len(lists):,} lists have another number of images than the server "
        f"takes: that of query {first!r} has {len(lists[first])}, not {wanted}"
    ]
