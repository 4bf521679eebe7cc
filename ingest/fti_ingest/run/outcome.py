"""What became of the images, where the time went, and how to be faster."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field

import pyarrow as pa

from fti_ingest.engine.protocol import Capacity
from fti_ingest.sources.source import Reject
from fti_ingest.stages.columns import rows_with
from fti_ingest.stages.row_status import (
    FOREIGN,
    PAYLOAD,
    REJECTED,
    SKIPPED,
    STORE,
    UNCHANGED,
)

STAGES = {
    "read_s": "read",
    "decode_s": "decode",
    "dedupe_s": "dedupe",
    "embed_s": "embed",
    "write_s": "write",
}
"""Columns of seconds, and the stages that they measure."""

COUNTED = {
    STORE: "stored",
    PAYLOAD: "updated",
    UNCHANGED: "unchanged",
    FOREIGN: "foreign",
    SKIPPED: "skipped",
    REJECTED: "rejected",
}
"""Statuses of rows, and the counts that they add to."""

SHORT = 1.0
"""Seconds of a run that is too short to judge: they may be those of a single batch."""

BUSY = 0.85
"""A stage that works for this share of the time holds up the others."""


@dataclass
class Outcome:
    """What became of the images.

    Attributes:
        updated: only their payload or URI was new.
        foreign: the gallery holds them as another program stored them.
        seconds: the whole run, without the listing.
        first: seconds until the first batch was done, which includes loading the model.
        first_images: images of that batch.
        stages: seconds of work by stage, of all its workers together.
        before: the same, until the first batch was done.
        duplicates: by kind.
        outdated: duplicates whose original changed later in the same run.
    """

    images: int = 0
    stored: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
    foreign: int = 0
    skipped: int = 0
    pruned: int = 0
    seconds: float = 0.0
    first: float = 0.0
    first_images: int = 0
    stages: dict[str, float] = field(default_factory=lambda: dict.fromkeys(STAGES.values(), 0.0))
    before: dict[str, float] = field(default_factory=dict)
    outdated: int = 0
    duplicates: dict[str, int] = field(default_factory=lambda: {"exact": 0, "near": 0})

    @property
    def rate(self) -> float | None:
        """Images per second after the first batch; None for a run that is too short to judge."""
        running = self.seconds - self.first
        return (self.images - self.first_images) / running if running >= SHORT else None

    def note_first(self, seconds: float) -> None:
        """Records that all images until now were done so many seconds after the start."""
        self.first, self.first_images, self.before = seconds, self.images, dict(self.stages)

    def add(self, batch: pa.Table) -> list[Reject]:
        """Counts finished rows; returns the rejected ones."""
        counts = Counter(batch["status"].to_pylist())
        self.images += batch.num_rows
        for status, name in COUNTED.items():
            setattr(self, name, getattr(self, name) + counts[status])
        for column, stage in STAGES.items():
            if column in batch.column_names:
                self.stages[stage] += float(pa.compute.sum(batch[column]).as_py() or 0)
        bad = rows_with(batch, REJECTED).select(["uri", "error"])
        return [Reject(*row.values()) for row in bad.to_pylist()]


@dataclass(frozen=True)
class StageUse:
    """One stage's share of the run's work, and how busy it kept what it had."""

    stage: str
    seconds: float
    share: float
    busy: float


def stage_uses(outcome: Outcome, capacity: Capacity) -> list[StageUse]:
    """How the time after the first batch was spent. In a very short run no stage counts as busy."""
    running = outcome.seconds - outcome.first
    if running < SHORT:
        running = math.inf
    after = {name: s - outcome.before.get(name, 0.0) for name, s in outcome.stages.items()}
    total = sum(outcome.stages.values()) or 1.0
    side_by_side = {
        "read": capacity.cpus,
        "decode": capacity.cpus,
        "dedupe": 1,
        "embed": capacity.models,
    }
    return [
        StageUse(
            stage,
            seconds,
            seconds / total,
            min(1.0, after[stage] / (running * side_by_side.get(stage, capacity.writers))),
        )
        for stage, seconds in outcome.stages.items()
        if seconds or stage != "dedupe"
    ]


def advice(uses: list[StageUse]) -> str:
    """What to change, judged by the stage that the others wait for."""
    busy = {use.stage: use.busy for use in uses}
    if busy["embed"] >= BUSY:
        return (
            "the model is the bottleneck, as it should be; for more speed: more --workers (with "
            "--gpus-per-worker), --precision bf16 or fp16 on GPUs, or a smaller model"
        )
    if busy["read"] + busy["decode"] >= BUSY:
        slower = "reading" if busy["read"] > busy["decode"] else "decoding"
        return (
            f"{slower} is the bottleneck, and the model waits; for more speed: more CPUs in the "
            "Ray cluster" + (", or the source nearer to them" if slower == "reading" else "")
        )
    if busy.get("dedupe", 0.0) >= BUSY:
        return (
            "looking for duplicates is the bottleneck, in one process; for more speed: leave out "
            "--dedupe, or make several galleries"
        )
    if busy["write"] >= BUSY:
        return (
            "writing is the bottleneck; for more speed: --bulk and --grpc, more --shards, or a "
            "server with faster disks"
        )
    return (
        "no stage is busy all the time: the run is short compared with its start, or other "
        "programs use the machine"
    )
