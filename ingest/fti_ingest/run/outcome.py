"""What became of the images, where the time went, and what that says."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from fti_ingest.sources.listing import Reject
from fti_ingest.stages.row_status import NO_FAULT, SKIPPED, UNCHANGED, UPDATED

STAGES = {
    "read_s": "read",
    "decode_s": "decode",
    "dedupe_s": "dedupe",
    "embed_s": "embed",
    "write_s": "write",
}
"""Columns of seconds, and what they are called."""

SHORT = 1.0
"""Seconds after the start of which nothing can be said: they may be those of one batch."""

BUSY = 0.85
"""Share of its time from which a stage holds up the others."""


@dataclass
class Outcome:
    """What became of the images.

    Attributes:
        updated: their payload alone was new.
        seconds: from the first image listed to the last one stored.
        first: seconds until the first were done: Ray's start of workers, loading of the model.
        first_images: how many those were.
        stages: seconds of work by stage, of all its workers together.
        before: the same, until the first were done.
        duplicates: by kind, of the images that were looked at.
        outdated: of those, the ones whose original then turned out to have changed.
    """

    images: int = 0
    stored: int = 0
    updated: int = 0
    unchanged: int = 0
    rejected: int = 0
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
        """Images a second once the workers had started; None for a run that was over soon after."""
        running = self.seconds - self.first
        return (self.images - self.first_images) / running if running >= SHORT else None

    def note_first(self, seconds: float) -> None:
        """What has been added until now was done so many seconds after the start."""
        self.first, self.first_images, self.before = seconds, self.images, dict(self.stages)

    def add(self, batch: pa.Table) -> list[Reject]:
        """Takes note of finished rows; returns the bad ones."""
        reasons = np.array(batch["reason"].to_pylist(), dtype=object)
        bad = ~np.isin(reasons, NO_FAULT)
        self.images += len(reasons)
        self.stored += int((reasons == "").sum())
        self.updated += int((reasons == UPDATED).sum())
        self.unchanged += int((reasons == UNCHANGED).sum())
        self.skipped += int((reasons == SKIPPED).sum())
        self.rejected += int(bad.sum())
        for column, stage in STAGES.items():
            if column in batch.column_names:
                self.stages[stage] += float(pa.compute.sum(batch[column]).as_py() or 0)
        uris = batch["uri"]
        return [Reject(uris[int(row)].as_py(), reasons[row]) for row in np.flatnonzero(bad)]

    def line(self) -> str:
        updated = f", {self.updated:,} updated (payload only)" if self.updated else ""
        skipped = f", {self.skipped:,} skipped as duplicates" if self.skipped else ""
        pruned = f", {self.pruned:,} pruned" if self.pruned else ""
        rate = "" if self.rate is None else f"; {self.rate:,.1f} images/s"
        return (
            f"{self.images:,} images in: {self.stored:,} stored, {self.unchanged:,} unchanged, "
            f"{self.rejected:,} rejected{updated}{skipped}{pruned}{rate}"
        )


@dataclass(frozen=True)
class Capacity:
    """What a run had to work with: decoding CPUs, models, and writers side by side."""

    cpus: int
    models: int
    writers: int


@dataclass(frozen=True)
class StageUse:
    """One stage's share of the run's work, and how busy it kept what it had."""

    stage: str
    seconds: float
    share: float
    busy: float


def stage_uses(outcome: Outcome, capacity: Capacity) -> list[StageUse]:
    """How the time was spent, once the workers had started.

    Of a run that was over soon after, no stage counts as busy.
    """
    running = outcome.seconds - outcome.first
    if running < SHORT:
        running = math.inf
    after = {name: s - outcome.before.get(name, 0.0) for name, s in outcome.stages.items()}
    total = sum(outcome.stages.values()) or 1.0
    lanes = {
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
            min(1.0, after[stage] / (running * lanes.get(stage, capacity.writers))),
        )
        for stage, seconds in outcome.stages.items()
        if seconds or stage != "dedupe"
    ]


def advice(uses: list[StageUse]) -> str:
    """What to change, by the stage that the others wait for."""
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
        "no stage is busy all the time: the run is short beside its start, or the machine does "
        "other work"
    )
