"""What scores look like: the cosines that each composer gives to images it did not ask for.

A cosine means nothing by itself: of two photographs it is rarely below 0.5, of a text and the photo
that shows it rarely above 0.35. What an image has to beat is the score of any other one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import numpy as np
from pydantic import BaseModel, Field

from fti_qdrant.async_search import AsyncComposedSearch
from fti_qdrant.composers.registry import all_composers
from fti_qdrant.errors import FtiError
from fti_qdrant.query import Query

SAMPLE = 100
"""Images whose vectors are compared."""

QUERIES = 8
"""Of each composer."""

TEXT = "in red"

logger = logging.getLogger(__name__)


class Scores(BaseModel):
    """Cosines of a composer's queries with images of the gallery that are not about them."""

    median: float = Field(description="Half of the other images score less.")
    percentile_95: float = Field(description="One in twenty scores more.")
    highest: float = Field(description="Of the sample; a score above it is no accident.")


class ScoreProfiles:
    """The scores of each composer, measured once, when there are images to measure them with."""

    def __init__(self, search: AsyncComposedSearch):
        self._search = search
        self._found: Mapping[str, Scores] = {}
        self._lock = asyncio.Lock()

    async def get(self) -> Mapping[str, Scores]:
        """By composer. Raises GalleryUnavailable."""
        async with self._lock:
            if not self._found:
                self._found = await score_profiles(self._search)
            return self._found


async def score_profiles(search: AsyncComposedSearch) -> dict[str, Scores]:
    """By composer; those that the model or the gallery cannot do are left out.

    Each composer answers ``QUERIES`` queries, a stored image and the text "in red", and their
    vectors are compared with all other images of a sample. It warms the model up, too.

    Raises GalleryUnavailable.
    """
    ids = [id for id, _ in await search.gallery.first(SAMPLE)]
    stored = await search.gallery.retrieve(ids)
    if len(stored) < 2:
        return {}
    vectors = np.stack([one.vector for one in stored])
    found = {}
    for composer in all_composers():
        queries = [
            Query(
                image=one.id if composer.uses_image else None,
                text=TEXT if composer.uses_text else None,
                composer=composer.name,
            )
            for one in stored[:QUERIES]
        ]
        try:
            composed = [one.unit_vector for one in await search.compose_many(queries)]
        except FtiError as error:
            logger.info("no scores of composer %s: %s", composer.name, error)
            continue
        cosines = np.stack(composed) @ vectors.T
        others = cosines[~np.eye(len(queries), len(stored), dtype=bool)]
        found[composer.name] = Scores(
            median=round(float(np.median(others)), 4),
            percentile_95=round(float(np.percentile(others, 95)), 4),
            highest=round(float(others.max()), 4),
        )
    return found
