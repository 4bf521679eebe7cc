"""The part of a query that runs the model, and who runs it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from fti_qdrant.composers.composer import Composer
from fti_qdrant.composition import ComposedQuery, compose_queries
from fti_qdrant.explanation import Explanation, QueryExplainer
from fti_qdrant.gallery import Gallery
from fti_qdrant.query import ReferencePictures
from fti_qdrant.references import LoadedQuery, embed_references

T = TypeVar("T")

EXPLAINED_WORDS = 5
"""Words for each pseudo-word of an explanation."""


@dataclass(frozen=True)
class ModelTask:
    """Queries of one caller.

    Attributes:
        words: how many words an explanation has for each pseudo-word.
    """

    queries: Sequence[LoadedQuery]
    words: int = EXPLAINED_WORDS


@dataclass(frozen=True)
class Understood:
    """A query vector, and its explanation where the query asks for one."""

    composed: ComposedQuery
    explanation: Explanation | None = None


class QueryModel:
    """Queries with their references -> query vectors and explanations."""

    def __init__(self, composer: Composer, gallery: Gallery):
        """The gallery says whose pseudo-words it stores; nothing is read from it here."""
        self.composer = composer
        self.gallery = gallery
        self._explainer = QueryExplainer(composer.backbone)

    def run(self, tasks: Sequence[ModelTask]) -> list[list[Understood]]:
        """All queries of all tasks in one batch through each tower.

        Raises ModelMismatch, BadQuery, PromptTooLong: see ``embed_references`` and
        ``compose_queries``.
        """
        queries = [query for task in tasks for query in task.queries]
        words = [task.words for task in tasks for _ in task.queries]
        references = embed_references(queries, self.composer, self.gallery)
        composed = compose_queries(queries, references, self.composer)
        made = iter(
            Understood(
                one,
                self._explainer.explain(one, used, ReferencePictures(), count)
                if query.query.explain
                else None,
            )
            for query, one, used, count in zip(queries, composed, references, words)
        )
        return [[next(made) for _ in task.queries] for task in tasks]


class QueryRunner(Protocol):
    """Who does what takes long in a query: reading pictures, and the model."""

    def read(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        """The results of functions that read. Raises as the first of them that fails."""
        ...

    def understand(self, task: ModelTask) -> list[Understood]:
        """Raises as ``QueryModel.run``."""
        ...


class InCaller:
    """Does it all in the caller's thread."""

    def __init__(self, model: QueryModel):
        self.model = model

    def read(self, tasks: Sequence[Callable[[], T]]) -> list[T]:
        return [task() for task in tasks]

    def understand(self, task: ModelTask) -> list[Understood]:
        [made] = self.model.run([task])
        return made
