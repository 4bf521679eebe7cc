"""``metrics.json``: the figures of one run, and everything that they depend on."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, Field, ValidationError

from fti_qdrant.atomic_files import write_text
from fti_qdrant.calibration.reliability import Reliability
from fti_qdrant.errors import CheckpointError, OutputUnavailable

METRICS, PER_QUERY, REPORT = "metrics.json", "per_query.parquet", "report.html"

Figures = dict[str, dict[str, float]]
"""Group -> measure -> mean."""


class EvaluationMetrics(BaseModel):
    """The figures of one run.

    Attributes:
        whole: name of the group of all queries.
        averaged_over: groups whose figures are averaged to the whole; empty: the mean over all
            queries.
        comparable: False where images were missing, or the annotations are not the official ones;
            ``notes`` say why.
        annotations: hash of the queries.
        gallery_digest: changes with any image of the gallery, or the bytes of its file.
        inverter: hash of its weights, or None.
        figures: composer -> group -> measure -> mean; empty where the answers are not public.
        set_figures: composer -> figures that compare the queries of a set, such as the wordings of
            one question; empty where the benchmark has none.
        index_loss: composer -> measure -> exact minus index, over all queries; only where
            ``search`` is index.
        calibration: composer -> how reliable the chances of its hits are, which ``fti-eval
            calibrate`` fits on a run, on queries that they were not fitted on.
        not_calibrated: composer -> why that was not measured.
        composer_options: composer -> its options; None in files of earlier versions.
        vocabulary: hash of the words that the model reads, where it has learned few.
        neighbors_found: composer -> share of the 10 exactly nearest images that the index finds.
    """

    format: Literal[1] = 1
    benchmark: str
    split: str
    protocol: str
    whole: str
    averaged_over: list[str]
    comparable: bool
    notes: list[str]
    search: Literal["exact", "index"]
    queries: int
    annotations: str
    gallery: str
    gallery_images: int
    gallery_digest: str
    model: dict[str, Any]
    precision: str
    device: str
    inverter: str | None
    figures: dict[str, Figures]
    set_figures: dict[str, dict[str, float]] = {}
    index_loss: dict[str, dict[str, float]] = {}
    calibration: dict[str, Reliability] = {}
    not_calibrated: dict[str, str] = {}
    composer_options: dict[str, dict[str, Any]] | None = None
    vocabulary: str | None = None
    neighbors_found: dict[str, float] = Field(
        default={}, validation_alias=AliasChoices("neighbors_found", "neighbours_found")
    )
    versions: dict[str, str]
    command: str
    made: datetime

    @classmethod
    def read(cls, path: Path) -> EvaluationMetrics:
        """Raises CheckpointError where the file is not one that fti-eval wrote."""
        try:
            return cls.model_validate_json(path.read_bytes())
        except OSError as error:
            raise CheckpointError(f"{str(path)!r} cannot be read: {error.strerror}") from error
        except ValidationError as error:
            first = error.errors()[0]
            raise CheckpointError(
                f"{str(path)!r} is not a {METRICS} of fti-eval ({first['loc']}: {first['msg']})"
            ) from error


def write_json(path: Path, content: Any) -> None:
    """Replaces a JSON file. Raises OutputUnavailable."""
    try:
        write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    except OSError as error:
        raise OutputUnavailable(f"{str(path)!r} cannot be written: {error.strerror}") from error
