"""What our requests to a server's collection keep to: its quantization, and its strict mode.

A collection in strict mode refuses requests beyond its limits. Those that we choose ourselves, such
as the number of points in an upload, stay within them; what the user asks for is sent as it is, and
the server's refusal is the answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from qdrant_client import models

from fti_qdrant.gallery.server_collection import oversampling_of

if TYPE_CHECKING:
    from typing_extensions import Self

UPLOAD = 64
"""Points of one upload: under 5 MB with the pseudo-words of a ViT-L."""


@dataclass(frozen=True)
class RequestLimits:
    """Limits of one collection; None stands for no limit.

    Attributes:
        results: of one search, and of one page.
        searches: in one request.
        points: in one upload; see ``upload``.
        oversampling: what a search is sent with; None where nothing is quantized.
    """

    results: int | None = None
    searches: int | None = None
    points: int | None = None
    oversampling: float | None = None

    @classmethod
    def of(cls, config: models.CollectionConfig, vector: str) -> Self:
        """Those of a collection whose vector ``vector`` is searched."""
        oversampling = oversampling_of(config, vector)
        strict = config.strict_mode_config
        if strict is None or not strict.enabled:
            return cls(oversampling=oversampling)
        if oversampling is not None and strict.search_max_oversampling is not None:
            oversampling = min(oversampling, strict.search_max_oversampling)
        return cls(
            strict.max_query_limit,
            getattr(strict, "search_max_batchsize", None),  # not of the first servers
            strict.upsert_max_batchsize,
            oversampling,
        )

    @property
    def upload(self) -> int:
        """Points that we send at a time."""
        return min(UPLOAD, self.points or UPLOAD)

    def page(self, wanted: int) -> int:
        """The size of a page that we choose."""
        return wanted if self.results is None else min(wanted, self.results)

    def results_read(self, wanted: int) -> int:
        """The limit of a search: the one image more than the user's limit, which tells whether
        others have the same score, is left out where it is too many."""
        return wanted - 1 if self.results is not None and wanted == self.results + 1 else wanted
