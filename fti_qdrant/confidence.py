"""The chance that a hit is right, for queries whose composer the gallery is calibrated for."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from fti_qdrant.composers.registry import find_composer
from fti_qdrant.errors import BadQuery
from fti_qdrant.gallery.calibration import Calibration, QueryKind, QueryMaker
from fti_qdrant.gallery.chance_map import ChanceMap
from fti_qdrant.gallery.protocol import VectorQuery
from fti_qdrant.query import Query

if TYPE_CHECKING:  # its module loads torch
    from fti_qdrant.composers.composer import Composer

NOT_CALIBRATED = "the gallery has no calibration"


def uncalibrated_argument(query: Query) -> str | None:
    """What moves a query's vector away from those that were judged; None where nothing does."""
    moving = {
        "avoid": query.avoid is not None,
        "weights": query.weights is not None,
        "like": bool(query.liked),
        "dislike": bool(query.disliked),
    }
    return next((name for name, used in moving.items() if used), None)


def chances_of(query: Query, composer: Composer, calibration: Calibration) -> ChanceMap | None:
    """The chances of a query's hits; None where the calibration was not fitted on such queries.

    Args:
        query: with the name of the composer that answers it.

    Raises BadQuery where there are none, and the query needs them for ``min_confidence``.
    """
    found = _find(query, composer, calibration)
    if isinstance(found, ChanceMap):
        return found
    if query.min_confidence is not None:
        raise _unknown(query, found)
    return None


def check_calibrated(query: Query, calibration: Calibration) -> None:
    """What of ``chances_of`` can be refused without the model. Raises BadQuery."""
    if query.min_confidence is not None and not calibration.composers:
        raise _unknown(query, calibration.problem or NOT_CALIBRATED)


def within_confidence(plan: VectorQuery, query: Query, chances: ChanceMap | None) -> VectorQuery:
    """The search with ``min_confidence`` as a score threshold, and a cutoff by chances.

    The engine then leaves out what is below: groups, order and pages come after that.
    """
    if chances is None:
        return plan
    least = plan.score_threshold
    if query.min_confidence is not None:
        cosine = chances.least_cosine(query.min_confidence)
        least = cosine if least is None else max(cosine, least)
    return replace(plan, score_threshold=least, chances=chances)


def query_maker(query: Query, composer: Composer) -> QueryMaker:
    """What makes the vector of a query, whose composer is named."""
    name = query.composer or ""
    inverter = composer.inverter
    inverts = find_composer(name).needs_inverter and inverter is not None
    return QueryMaker(
        composer=name,
        kind=_kind(query),
        options=composer.options(name, query.composer_options).model_dump(mode="json"),
        fingerprint=composer.backbone.fingerprint,
        inverter=inverter.weights_hash if inverts and inverter is not None else None,
        vocabulary=composer.backbone.vocabulary_digest,
    )


def _find(query: Query, composer: Composer, calibration: Calibration) -> ChanceMap | str:
    """The chances, or why there are none."""
    if not calibration.composers:
        return calibration.problem or NOT_CALIBRATED
    if (used := uncalibrated_argument(query)) is not None:
        return f"scores of a query with {used!r} are not calibrated"
    found = calibration.find(query_maker(query, composer))
    if isinstance(found, str):
        return found
    if len(query.references) > found.most_references:
        return (
            f"it was calibrated with at most {found.most_references} reference images, and this "
            f"query has {len(query.references)}"
        )
    return found.chances


def _unknown(query: Query, reason: str) -> BadQuery:
    by = f" of composer {query.composer!r}" if query.composer else ""
    return BadQuery(
        f"min_confidence {query.min_confidence} needs to know the chances of hits{by}, and "
        f"{reason}; leave it out, or fit them with fti-eval calibrate"
    )


def _kind(query: Query) -> QueryKind:
    if query.references:
        return "image and text" if query.words else "image"
    return "text"
