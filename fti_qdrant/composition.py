"""A batch of queries with their references -> query vectors: one pass for each composer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from fti_qdrant.composers.composer import Composer, References
from fti_qdrant.references import LoadedQuery

TRUNCATED = "the text is longer than the model's context; its end was cut off"


@dataclass(frozen=True)
class ComposedQuery:
    """One composed query.

    Attributes:
        vector: ``[d]``, unit length.
        warnings: of composing, such as a text that was cut.
    """

    vector: Tensor
    warnings: tuple[str, ...]


def compose_queries(
    queries: Sequence[LoadedQuery], references: Sequence[References | None], composer: Composer
) -> list[ComposedQuery]:
    """Composes the queries of each composer as one batch; the results in the queries' order.

    Args:
        references: of each query, from ``embed_references``.

    Raises BadQuery, PromptTooLong: see ``Composer.compose_references``.
    """
    composed: dict[int, ComposedQuery] = {}
    for name in dict.fromkeys(query.composer.name for query in queries):
        rows = [row for row, query in enumerate(queries) if query.composer.name == name]
        texts = [queries[row].query.words for row in rows]
        batch = None
        if queries[rows[0]].composer.uses_image:
            batch = References.join([one for row in rows if (one := references[row]) is not None])
        result = composer.compose_references(batch, texts, name)
        for row, vector, truncated in zip(rows, result.vectors, result.truncated):
            composed[row] = ComposedQuery(vector, (TRUNCATED,) if truncated else ())
    return [composed[row] for row in range(len(queries))]
