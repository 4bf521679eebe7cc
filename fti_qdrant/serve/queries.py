"""Requests -> queries. No string of a request becomes a path: see ``picture_of``."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from fti_qdrant.errors import BadImage, BadQuery
from fti_qdrant.gallery.points import OURS
from fti_qdrant.images import Cropped
from fti_qdrant.query import Query
from fti_qdrant.reference_ids import Reference
from fti_qdrant.serve.schemas import ComposeRequest, CropBox, ReferenceImage, SearchRequest

SHARED = ("text", "avoid", "composer", "text_weight", "options", "like", "dislike")
"""Arguments that a query vector depends on, by the same names in requests and queries."""

SEARCH = (
    *("filter", "limit", "offset", "cutoff", "min_confidence", "score_threshold"),
    *("diversity", "order_by"),
    *("group_by", "group_size", "exclude_reference", "with_payload", "with_vectors", "exact"),
    *("search_params", "explain"),
)


@dataclass(frozen=True)
class Pictures:
    """Where the pictures of a request come from.

    Attributes:
        files: of a multipart request, by name.
        urls: of those references that are URLs, by URL.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    urls: Mapping[str, bytes] = field(default_factory=dict)


def query_of(request: SearchRequest, pictures: Pictures) -> Query:
    """A query of a request. Raises BadQuery, BadImage."""
    check_fields((request.order_by, request.group_by), request.filter)
    return Query(**compose_arguments(request, pictures), **_given(request, SEARCH))


def compose_arguments(request: ComposeRequest, pictures: Pictures) -> dict[str, Any]:
    """The arguments of ``ComposedSearch.compose``. Raises BadQuery, BadImage."""
    files = pictures.files
    references = request.references
    if references is None:
        references = [ReferenceImage.model_validate({"file": name}) for name in files]
    check_all_named(references, files)
    images = [picture_of(one, pictures, f"references.{at}") for at, one in enumerate(references)]
    weights = [one.weight for one in references]
    weighted = any(weight is not None for weight in weights)
    return {
        "image": images or None,
        "weights": [1.0 if one is None else one for one in weights] if weighted else None,
        **_given(request, SHARED),
    }


def check_fields(names: Iterable[str | None], filter: Mapping[str, Any] | None) -> None:
    """Raises BadQuery for a field that is the gallery's own, such as where its files are."""
    for name in (*names, *_keys(filter)):
        if name is not None and name.lstrip('-"').startswith(OURS):
            raise BadQuery(f"{name!r} is not a field of the payload; fields of {OURS} are private")


def _keys(filter: Any) -> Iterator[str]:
    if isinstance(filter, Mapping):
        yield from filter
    parts = filter.values() if isinstance(filter, Mapping) else filter
    for part in parts if isinstance(filter, (Mapping, list)) else ():
        yield from _keys(part)


def picture_of(image: ReferenceImage, pictures: Pictures, where: str) -> Reference:
    """A reference as the library takes it: an id, or bytes.

    Args:
        where: its place in the request, for messages.

    Raises BadQuery, BadImage.
    """
    whole = bytes_of(image, pictures, where) if image.id is None else image.id
    return whole if image.crop is None else Cropped(whole, box_of(image.crop))


def bytes_of(image: ReferenceImage, pictures: Pictures, where: str) -> bytes:
    """The picture of a reference that is not an id. Raises BadQuery, BadImage."""
    if image.base64 is not None:
        return decoded(image.base64, f"{where}.base64")
    if image.url is not None:
        return pictures.urls[image.url]
    found = pictures.files.get(image.file or "")
    if found is None:
        names = ", ".join(map(repr, pictures.files)) or "none"
        raise BadQuery(f"{where}: no file {image.file!r} was sent; the request's files: {names}")
    return found


def decoded(text: str, where: str) -> bytes:
    """The bytes of a picture in base64, with or without what stands before it in a data URI.

    Example:
        >>> decoded("data:image/gif;base64,R0lG\\nODlh", "references.0.base64")
        b'GIF89a'

    Raises BadImage.
    """
    head, comma, tail = text.partition(",")
    data = tail if comma and head.startswith("data:") else text
    try:
        found = base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadImage(f"{where} is not base64 ({error}); encode the bytes of the file") from None
    if not found:
        raise BadImage(f"{where} is empty; encode the bytes of the file")
    return found


def box_of(crop: CropBox) -> tuple[float, float, float, float]:
    return crop.left, crop.top, crop.right, crop.bottom


def check_all_named(references: list[ReferenceImage], files: Mapping[str, bytes]) -> None:
    """Raises BadQuery for a file that no reference names: it would be left out in silence."""
    named = {one.file for one in references}
    unused = next((name for name in files if name not in named), None)
    if unused is not None:
        raise BadQuery(
            f'no reference names the file {unused!r}; add {{"file": "{unused}"}} to references, '
            "or leave references out, and every file is one"
        )


def _given(request: ComposeRequest, names: tuple[str, ...]) -> dict[str, Any]:
    return {name: getattr(request, name) for name in names}
