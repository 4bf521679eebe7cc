"""The eight queries of ``fti-demo``; the answer to each follows from Unicode."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Showcase:
    """A composed query with its right answer.

    Attributes:
        reference, answer: keys of emoji.
        filter: for a second search; the answer passes it.
    """

    reference: str
    text: str
    answer: str
    filter: Mapping[str, Any]


SHOWCASES = (
    Showcase(
        reference="1f469-1f3fd-200d-1f692",
        text="with dark skin tone",
        answer="1f469-1f3ff-200d-1f692",
        filter={"gender": "woman"},
    ),
    Showcase(
        reference="1f468-1f3fb-200d-1f680",
        text="as a woman",
        answer="1f469-1f3fb-200d-1f680",
        filter={"tone": ["light skin tone", "medium-light skin tone"]},
    ),
    Showcase(
        reference="1f469-1f3fd-200d-1f9b0",
        text="with white hair",
        answer="1f469-1f3fd-200d-1f9b3",
        filter={"tone": "medium skin tone"},
    ),
    Showcase(
        reference="1f6b6-1f3fe-200d-2640",
        text="facing right",
        answer="1f6b6-1f3fe-200d-2640-200d-27a1",
        filter={"direction": {"exists": True}},
    ),
    Showcase(
        reference="1f468-1f3fc-200d-1f527",
        text="with medium skin tone",
        answer="1f468-1f3fd-200d-1f527",
        filter={"not": {"gender": "woman"}},
    ),
    Showcase(
        reference="2764",
        text="in blue",
        answer="1f499",
        filter={"group": "Smileys & Emotion"},
    ),
    Showcase(
        reference="1f550",
        text="at half past six",
        answer="1f561",
        filter={"group": "Travel & Places"},
    ),
    Showcase(
        reference="1f4d5",
        text="in green",
        answer="1f4d7",
        filter={"group": "Objects", "color": ["green", "blue", "orange"]},
    ),
)
