"""What a gallery stores: one point for each image, and a description of itself."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from fti_qdrant.errors import BadManifest, GalleryUnavailable, ModelMismatch
from fti_qdrant.gallery.layout import IMAGE_VECTOR as IMAGE_VECTOR
from fti_qdrant.gallery.layout import OUR_LAYOUT, CollectionLayout
from fti_qdrant.gallery.layout import OURS as OURS
from fti_qdrant.gallery.layout import SHA256_KEY as SHA256_KEY
from fti_qdrant.gallery.layout import WORDS_VECTOR as WORDS_VECTOR
from fti_qdrant.gallery.layout import Payload as Payload
from fti_qdrant.gallery.model_check import ModelCheck
from fti_qdrant.gallery.point_ids import PointId as PointId
from fti_qdrant.gallery.point_ids import StoredId, stored_form
from fti_qdrant.gallery.point_ids import point_id as point_id
from fti_qdrant.model.fingerprint import Fingerprint

if TYPE_CHECKING:
    from typing_extensions import Self

IndexType = Literal["keyword", "integer", "float", "bool", "datetime"]


def indexes_made(wanted: Mapping[str, IndexType]) -> dict[str, IndexType]:
    """The payload indexes of a gallery: the requested ones, and ours, which finds references."""
    return {**wanted, SHA256_KEY: "keyword"}


class WordsSpec(BaseModel):
    """Which pseudo-words a gallery stores: their inverter and their shape.

    Attributes:
        inverter: hash of its weights.
        name: folder or hub name that it was loaded by; None for a model's own.
        preprocess: of the pictures that they are made of; None where it is the gallery's.
        partial: they were added to an existing gallery, and some images may have none.
    """

    model_config = ConfigDict(frozen=True)

    inverter: str
    topk: int
    token_dim: int
    name: str | None = None
    preprocess: str | None = None
    partial: bool = False

    def matches(self, other: WordsSpec) -> bool:
        """Whether the pseudo-words of the two may be mixed."""
        ours = (self.inverter, self.topk, self.token_dim)
        return ours == (other.inverter, other.topk, other.token_dim)


class GallerySpec(BaseModel):
    """What a gallery stores about itself, as JSON.

    Attributes:
        fingerprint: of the model that made its vectors.
        indexes: payload fields with an index, and their types.
        words: set where pseudo-words are stored.
        layout: names of its vectors and payload fields.
        check: how the model was checked where a user declared it; None where fti-ingest made all
            vectors.
    """

    model_config = ConfigDict(frozen=True)

    format: Literal[1] = 1
    fingerprint: Fingerprint
    indexes: dict[str, IndexType] = {}
    words: WordsSpec | None = None
    layout: CollectionLayout = OUR_LAYOUT
    check: ModelCheck | None = None

    @property
    def payload_indexes(self) -> dict[str, IndexType]:
        """All indexes that fti-ingest makes: in another program's collection, none but its own."""
        return indexes_made(self.indexes) if self.layout.ours else dict(self.indexes)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What every answer should say."""
        return () if self.check is None else self.check.warnings()

    @classmethod
    def read(cls, text: str | bytes, where: str) -> Self:
        """Parses what ``model_dump_json`` wrote. Raises GalleryUnavailable for anything else."""
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise GalleryUnavailable(
                f"{where} does not describe an fti-qdrant gallery ({first['loc']}: "
                f"{first['msg']}); ingest into a new one"
            ) from error

    def check_model(self, fingerprint: Fingerprint, where: str) -> None:
        """Raises ModelMismatch, which names both models, where another one made the vectors."""
        if not self.fingerprint.matches(fingerprint):
            raise ModelMismatch(
                f"gallery {where} was made with {self.fingerprint}, and the loaded model is "
                f"{fingerprint}; open it with the model it was made with, or ingest again"
            )

    def check_words(self, wanted: WordsSpec | None, where: str) -> None:
        """Raises ModelMismatch unless the gallery stores these pseudo-words (or none)."""
        if self.words is None and wanted is None:
            return
        if self.words is None:
            raise ModelMismatch(
                f"gallery {where} was made without pseudo-words; leave out --pseudo-words, or "
                "ingest into a new gallery"
            )
        if wanted is None:
            raise ModelMismatch(
                f"gallery {where} stores pseudo-words of inverter {self.words.inverter}, and no "
                "inverter is loaded; pass --inverter, or ingest into a new gallery"
            )
        if self.words.matches(wanted):
            return
        raise ModelMismatch(
            f"gallery {where} stores pseudo-words of inverter {self.words.inverter}, and the "
            f"loaded one is {wanted.inverter}; ingest into a new gallery"
        )


@dataclass(frozen=True)
class GalleryPoint:
    """An image to store in a gallery.

    Attributes:
        vector: ``[d]`` float32; need not be normalized.
        payload: the user's fields at the top level, ours under ``_fti``.
        words: ``[1 + topk, t]`` pseudo-words, or None; the payload says how many are used.
    """

    id: StoredId
    vector: np.ndarray
    payload: Payload
    words: np.ndarray | None = None


@dataclass(frozen=True)
class StoredImage:
    """A stored image; ``vector`` is L2-normalized, ``words`` are rounded to float16."""

    id: StoredId
    payload: Payload
    vector: np.ndarray
    words: np.ndarray | None = None


@dataclass(frozen=True)
class FacetCount:
    """A value of a payload field, and how many images have it; unpacks as a pair.

    Example:
        >>> dict([FacetCount("Acme", 3), FacetCount("Borg", 1)])
        {'Acme': 3, 'Borg': 1}
    """

    value: str | int | bool
    count: int

    def __iter__(self) -> Iterator[Any]:
        return iter((self.value, self.count))


@dataclass(frozen=True)
class ScoredPoint:
    """One search result; ``score`` is the cosine, ``group`` the value that it was grouped by."""

    id: StoredId
    score: float
    payload: Payload = field(default_factory=dict)
    vector: np.ndarray | None = None
    group: str | int | None = None


def check_points(points: list[GalleryPoint], spec: GallerySpec) -> None:
    """Refuses points that no backend may store; Qdrant Edge would accept them in silence.

    Raises:
        ModelMismatch: vectors of another size, zero, or with NaN; pseudo-words of another shape.
        BadManifest: a payload that is not JSON.
        UnknownImageId: an id that is neither a UUID nor a number.
    """
    for point in points:
        stored_form(point.id)
        _check_payload(point)
        check_vector(point.vector, spec.fingerprint.dim, f"image {point.id}")
        if point.words is None and spec.words is not None and spec.words.partial:
            continue
        if (point.words is None) != (spec.words is None):
            raise ModelMismatch(
                f"image {point.id}: pseudo-words are "
                f"{'missing' if point.words is None else 'given'}, and the gallery was created "
                f"{'with' if spec.words else 'without'} them"
            )
        if spec.words and point.words is not None:
            shape = (1 + spec.words.topk, spec.words.token_dim)
            fits = point.words.shape == shape or (
                spec.words.partial and _is_part(point.words.shape, shape)
            )
            if not fits or not np.isfinite(point.words).all():
                raise ModelMismatch(
                    f"image {point.id}: pseudo-words of shape {point.words.shape} with "
                    f"{np.count_nonzero(~np.isfinite(point.words))} values that are not finite; "
                    f"the gallery needs {shape}"
                )


def _is_part(shape: tuple[int, ...], whole: tuple[int, int]) -> bool:
    """Whether pseudo-words are the used rows of those of a shape."""
    return len(shape) == 2 and 0 < shape[0] <= whole[0] and shape[1] == whole[1]


def _check_payload(point: GalleryPoint) -> None:
    try:
        if not all(isinstance(name, str) for name in point.payload):
            raise TypeError("names must be text")
        json.dumps(point.payload, allow_nan=False, ensure_ascii=False).encode()
    except (TypeError, ValueError) as error:
        raise BadManifest(
            f"image {point.id}: the payload cannot be stored as JSON ({error})"
        ) from error


def check_vector(vector: np.ndarray, dim: int, label: str) -> None:
    """Raises ModelMismatch unless ``vector`` is ``[dim]``, finite and not zero."""
    if vector.shape != (dim,):
        raise ModelMismatch(
            f"{label}: a vector of shape {vector.shape}; the gallery needs ({dim},)"
        )
    if not np.isfinite(vector).all() or not vector.any():
        raise ModelMismatch(f"{label}: the vector is zero or contains NaN; the model is broken")
