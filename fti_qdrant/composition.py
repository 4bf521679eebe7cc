"""A batch of queries with their references -> query vectors, whatever their composers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.inputs import Composed, ComposeRequest, References
from fti_qdrant.references import LoadedQuery

if TYPE_CHECKING:
    from fti_qdrant.model.tokens import SentPrompt

TRUNCATED = "the text is longer than the model's context; its end was cut off"
NOT_LEARNED = "the model has not learned these words, and read the text without them: {words}"


@dataclass(frozen=True)
class ComposedQuery:
    """One composed query.

    Attributes:
        vector: float32 ``[d]``, of unit length; ``raw-sum`` leaves the length that it has.
        composer: the one that made it.
        warnings: what the user should know, such as a text that was cut.
        batch: the queries that it was composed with.
        row: its place among them.
    """

    vector: np.ndarray
    composer: str
    warnings: tuple[str, ...]
    batch: Composed = field(repr=False)
    row: int = field(repr=False)

    @property
    def prompt(self) -> str | None:
        """The text or prompt as the text encoder saw it, a star in place of each pseudo-word.

        None where no text was encoded.
        """
        sent = self.sent
        return "; ".join(map(str, sent)) if sent else None

    @property
    def sent(self) -> tuple[SentPrompt, ...]:
        """The parts of ``prompt``."""
        return self.batch.sent(self.row)

    @property
    def cosines(self) -> dict[str, float]:
        """Of the composed vector with each feature that the composer read."""
        return self.batch.cosines(self.row)

    @property
    def unit_vector(self) -> np.ndarray:
        """The vector scaled to unit length."""
        length = float(np.linalg.norm(self.vector))
        return self.vector / length if length else self.vector


def compose_queries(
    queries: Sequence[LoadedQuery], references: Sequence[References | None], composer: Composer
) -> list[ComposedQuery]:
    """Composes all queries in one pass of the text tower; the results in the queries' order.

    Args:
        references: of each query, from ``embed_references``.

    Raises BadQuery, PromptTooLong: see ``Composer.compose_references``.
    """
    groups = _groups(queries)
    requests = [
        _request([queries[row] for row in rows], [references[row] for row in rows], composer)
        for rows in groups
    ]
    composed: dict[int, ComposedQuery] = {}
    for rows, made in zip(groups, composer.compose_requests(requests)):
        vectors = made.vectors.cpu().numpy()
        for at, row in enumerate(rows):
            query = queries[row].query
            cut = (TRUNCATED,) if made.truncated[at] else ()
            warnings = (*query.warnings, *cut, *_left_out(queries[row], composer))
            composed[row] = ComposedQuery(vectors[at], query.composer or "", warnings, made, at)
    return [composed[row] for row in range(len(queries))]


def _left_out(query: LoadedQuery, composer: Composer) -> tuple[str, ...]:
    """A warning of the words that a model with a closed vocabulary did not read."""
    learned = composer.backbone.learned
    if learned is None or not query.composer.uses_text:
        return ()
    words = learned.left_out(query.query.words)
    return (NOT_LEARNED.format(words=", ".join(map(repr, words))),) if words else ()


def _groups(queries: Sequence[LoadedQuery]) -> list[list[int]]:
    """Rows of queries with the same composer and options: each group is one request."""
    groups: dict[str, list[int]] = {}
    for row, query in enumerate(queries):
        options = sorted(query.options.items())
        key = repr((query.composer.name, options, query.query.weights is None))
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _request(
    queries: Sequence[LoadedQuery], references: Sequence[References | None], composer: Composer
) -> ComposeRequest:
    first = queries[0]
    batch = None
    if first.composer.uses_image:
        batch = References.join([one for one in references if one is not None])
    return composer.request(
        batch,
        [query.query.words for query in queries],
        first.composer.name,
        options=first.options,
        avoid=[(query.query.avoid or "").strip() for query in queries],
    )
