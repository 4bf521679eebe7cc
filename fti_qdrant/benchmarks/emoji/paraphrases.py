"""The modification texts of the emoji edits as people write them, half of them never trained on.

``paraphrases.json`` holds the templates of each facet in two halves. They are split by sentence
structure (``wordings.structure``): words may occur in both, but no structure of the unused half
occurs in the training half, in the known wordings or in the extra ones of the training, not even
as a part of a longer sentence. To add a template, put it into the half that has its structure;
``tests/benchmarks/test_paraphrases.py`` checks the split.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

from pydantic import BaseModel, ConfigDict, TypeAdapter

from fti_qdrant.benchmarks.emoji.wordings import Wordings

FILE = "paraphrases.json"


class FacetParaphrases(BaseModel):
    """The templates of one facet; ``wordings.slots_of`` says what can stand in them.

    Attributes:
        training: the captions of ``fti-train mini`` use these.
        unused: no training may use these.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    training: tuple[str, ...]
    unused: tuple[str, ...]


@lru_cache(maxsize=1)
def paraphrases() -> dict[str, FacetParaphrases]:
    """Facet -> its templates."""
    data = files(__package__).joinpath(FILE).read_bytes()
    return TypeAdapter(dict[str, FacetParaphrases]).validate_json(data)


def training_wordings() -> Wordings:
    """The half that training may use."""
    return {facet: both.training for facet, both in paraphrases().items()}


def unused_wordings() -> Wordings:
    """The half that no training uses: how well a model reads a text of a structure new to it."""
    return {facet: both.unused for facet, both in paraphrases().items()}
