"""Judged hits, and a calibration of them, for the tests."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Any

import numpy as np

from fti_qdrant import Composer
from fti_qdrant.calibration.judged_hits import JudgedHits, JudgedQueryHits
from fti_qdrant.confidence import query_maker
from fti_qdrant.gallery.calibration import Calibration, ComposerCalibration, QueryMaker
from fti_qdrant.gallery.chance_map import ChanceMap
from fti_qdrant.model.fingerprint import Fingerprint
from fti_qdrant.query import Query

CHANCES = ChanceMap(cosines=(-1.0, -0.2, 0.1, 0.5), chances=(0.0, 0.05, 0.6, 0.95))
MAKER = QueryMaker(
    composer="pdv",
    kind="image and text",
    options={"text_weight": 0.5},
    fingerprint=Fingerprint("tiny", "0123456789abcdef", "GELU", "targetpad", 8),
    inverter="fedcba9876543210",
)


def calibrated(maker: QueryMaker = MAKER, **changes: Any) -> ComposerCalibration:
    facts: dict[str, Any] = {
        "chances": CHANCES,
        "depth": 10,
        "queries": 40,
        "hits": 400,
        "right": 60,
        "most_references": 1,
        "fitted_on": "test",
        "ece": 0.01,
        "brier": 0.1,
        "made": datetime(2026, 1, 1, tzinfo=timezone.utc),
    }
    return ComposerCalibration(maker=maker, **{**facts, **changes})


def calibration_for(composer: Composer, *queries: Query) -> Calibration:
    """One that knows the chances of hits of such queries; each names its composer."""
    made = [calibrated(query_maker(query, composer)) for query in queries]
    return Calibration().updated(made)


def random_hits(seed: int, queries: int = 60, depth: int = 10) -> JudgedHits:
    """Of queries that are right the more often the higher their score."""
    rng = np.random.default_rng(seed)
    each = []
    for number in range(queries):
        scores = rng.uniform(0.1, 0.9, depth).astype(np.float32)
        right = rng.random(depth) < scores**2
        each.append(JudgedQueryHits(f"reference {number // 2}", scores.tolist(), right.tolist()))
    return JudgedHits.of(each)
