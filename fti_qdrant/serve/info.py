"""What a service searches, and what can be asked of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from pydantic import BaseModel, Field

from fti_qdrant.async_search import AsyncComposedSearch
from fti_qdrant.composers.description import ComposerDescription
from fti_qdrant.composers.registry import all_composers
from fti_qdrant.filters.field_choices import FACETED
from fti_qdrant.filters.value_kinds import kind_of
from fti_qdrant.gallery.layout import OURS, Payload
from fti_qdrant.search import ComposedSearch
from fti_qdrant.serve.schemas import MOST_HITS, MOST_QUERIES, MOST_REFERENCES
from fti_qdrant.serve.score_profiles import Scores
from fti_qdrant.serve.settings import ServeSettings
from fti_qdrant.version import __version__


class ComposerInfo(BaseModel):
    """One way to combine image and text."""

    name: str
    summary: str
    available: bool = Field(description="Whether the loaded model can do it.")
    default: bool = Field(description="It answers where a query names none.")
    needs_image: bool
    needs_text: bool
    needs_inverter: bool
    options: dict[str, Any] = Field(description="JSON schema of its options, with defaults.")
    calibrated: bool = Field(description="Whether hits of such queries may have a confidence.")
    scores: Scores | None = Field(description="What its scores look like in this gallery.")


class FieldInfo(BaseModel):
    """One field of the payload."""

    name: str = Field(description="As filters, facets and groups take it.")
    types: list[str] = Field(description="Of the values in a sample of images.")
    index: str | None = Field(description="Type of its payload index.")
    facets: bool = Field(description="Whether `/facets/{field}` counts its values.")


class LimitsInfo(BaseModel):
    """What one request may hold."""

    body_bytes: int
    image_bytes: int
    image_pixels: int
    seconds: float
    references: int
    hits: int
    batch: int
    rate: str | None


class ServiceInfo(BaseModel):
    """The answer of ``/info``."""

    version: str
    gallery: str = Field(description="Name of its folder or collection.")
    model: str
    preprocess: str
    inverter: str | None = Field(description="Hash of its weights.")
    images: int
    composers: list[ComposerInfo]
    fields: list[FieldInfo]
    urls: bool = Field(description="Whether references may be URLs.")
    writes: bool = Field(description="Whether images can be added and deleted.")
    limits: LimitsInfo


async def service_info(
    service: AsyncComposedSearch,
    settings: ServeSettings,
    scores: Mapping[str, Scores],
    writes: bool,
) -> ServiceInfo:
    """Asks the gallery for its images and fields. Raises GalleryUnavailable."""
    search, gallery = service.search, service.gallery
    fingerprint = gallery.spec.fingerprint
    inverter = search.composer.inverter
    return ServiceInfo(
        version=__version__,
        gallery=PurePath(gallery.address).name,
        model=fingerprint.model,
        preprocess=fingerprint.preprocess,
        inverter=None if inverter is None else inverter.weights_hash,
        images=await gallery.count(),
        composers=[_composer(one, search, scores.get(one.name)) for one in all_composers()],
        fields=_fields(await gallery.indexes(), await gallery.sample()),
        urls=search.allow_urls,
        writes=writes,
        limits=LimitsInfo(
            body_bytes=settings.max_body,
            image_bytes=search.limits.max_bytes,
            image_pixels=search.limits.max_pixels,
            seconds=settings.max_seconds,
            references=MOST_REFERENCES,
            hits=MOST_HITS,
            batch=MOST_QUERIES,
            rate=settings.rate,
        ),
    )


def _composer(
    one: ComposerDescription, search: ComposedSearch, scores: Scores | None
) -> ComposerInfo:
    return ComposerInfo(
        name=one.name,
        summary=one.summary,
        available=search.composer.inverter is not None or not one.needs_inverter,
        default=one.name == search.composer.default_composer,
        needs_image=one.uses_image,
        needs_text=one.uses_text,
        needs_inverter=one.needs_inverter,
        options=_options(one, search),
        calibrated=any(made.maker.composer == one.name for made in search.calibration.composers),
        scores=scores,
    )


def _options(one: ComposerDescription, search: ComposedSearch) -> dict[str, Any]:
    """With the defaults of the loaded model in place of the composer's."""
    schema = one.options.model_json_schema()
    if search.composer.inverter is None and one.needs_inverter:
        return schema
    defaults = search.composer.options(one.name).model_dump()
    for name, value in schema.get("properties", {}).items():
        value["default"] = defaults[name]
    return schema


def _fields(indexes: Mapping[str, str], sample: Sequence[Payload]) -> list[FieldInfo]:
    kinds: dict[str, set[str]] = {name: set() for name in indexes}
    for payload in sample:
        for name, value in _values(payload):
            kinds.setdefault(name, set()).add(kind_of(value))
    return [
        FieldInfo(
            name=name,
            types=sorted(found),
            index=indexes.get(name),
            facets=indexes.get(name) in FACETED,
        )
        for name, found in sorted(kinds.items())
        if not name.startswith(f"{OURS}.")
    ]


def _values(payload: Payload, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Each plain value with the path of its field; of lists, their values."""
    for name, value in payload.items():
        if not prefix and name == OURS:
            continue
        path = prefix + (f'"{name}"' if "." in name else name)
        for one in value if isinstance(value, list) else [value]:
            if isinstance(one, dict):
                yield from _values(one, f"{path}.")
            elif one is not None and not isinstance(one, list):
                yield path, one
