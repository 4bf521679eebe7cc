"""A run's counters, by Ray's own mechanism: each node serves them to Prometheus.

They are ``ray_fti_ingest_images_total``, ``ray_fti_ingest_stage_seconds_total`` and
``ray_fti_ingest_source_images``; without ``ray[default]`` nobody serves them, and nothing fails.
"""

from __future__ import annotations

from ray.util.metrics import Counter, Gauge

from fti_ingest.run.outcome import Outcome

OUTCOMES = ("stored", "updated", "unchanged", "rejected", "skipped")


class RunMetrics:
    """Follows an outcome as it grows."""

    def __init__(self, gallery: str, images: int):
        tags = {"gallery": gallery}
        keys = ("gallery",)
        self._images = Counter(
            "fti_ingest_images", "Images done, by what became of them.", (*keys, "outcome")
        )
        self._seconds = Counter(
            "fti_ingest_stage_seconds", "Seconds of work, by stage.", (*keys, "stage")
        )
        self._images.set_default_tags(tags)
        self._seconds.set_default_tags(tags)
        source = Gauge("fti_ingest_source_images", "Images that the source lists.", keys)
        source.set(images, tags)
        self._told: dict[tuple[str, str], float] = {}

    def follow(self, outcome: Outcome) -> None:
        """Adds what has come since the last call."""
        for name in OUTCOMES:
            self._add(self._images, "outcome", name, getattr(outcome, name))
        for stage, seconds in outcome.stages.items():
            self._add(self._seconds, "stage", stage, seconds)

    def _add(self, counter: Counter, key: str, value: str, total: float) -> None:
        before = self._told.get((key, value), 0.0)
        if total > before:
            counter.inc(total - before, {key: value})
            self._told[key, value] = total
