"""Zero-shot validation during training: composed queries that the inverter has never seen."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

from fti_qdrant.composers.composer import Composer
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import Inverter
from fti_training.mini import evaluate
from fti_training.mini.pictures import draw_all

Validation = Callable[[Backbone, Inverter], dict[str, float]]

SCORE = "emoji_R@1"
"""The figure by which the best checkpoint is chosen."""


def validation(on: Literal["emoji", "none"]) -> Validation | None:
    """The validation of that name."""
    return EmojiValidation() if on == "emoji" else None


class EmojiValidation:
    """The held-out edits of the emoji benchmark, among all Twemoji pictures.

    Drawn and embedded once; the backbone is frozen.
    """

    def __init__(self) -> None:
        self._gallery: evaluate.Gallery | None = None

    @torch.inference_mode()
    def __call__(self, backbone: Backbone, inverter: Inverter) -> dict[str, float]:
        if self._gallery is None:
            self._gallery = evaluate.embed(backbone, draw_all("twemoji", backbone.preprocess))
        asked = evaluate.held_out_edits(self._gallery)
        training = inverter.training
        composer = Composer(backbone, inverter.eval())
        figures = evaluate.composed(composer, self._gallery, asked, ("fti",))["fti"]
        inverter.train(training)
        return {f"emoji_{name}": value for name, value in figures.items()}
