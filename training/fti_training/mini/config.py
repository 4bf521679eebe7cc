"""What ``fti-train mini`` trains, and for how long."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from fti_training.precision import Precision


class MiniConfig(BaseModel):
    """Sizes and schedule of the embedded model, and the recipe of its inverter."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = 0
    image_size: PositiveInt = 64
    patch_size: PositiveInt = 16
    width: PositiveInt = 192
    visual_layers: PositiveInt = 6
    text_layers: PositiveInt = 4
    batch: PositiveInt = 256

    backbone_steps: PositiveInt = 3200
    backbone_lr: PositiveFloat = 1e-3
    backbone_warmup: PositiveInt = 100
    backbone_weight_decay: float = 0.1
    backbone_average: float = 0.998
    """Decay of a moving average of the weights (EMA); the average is kept."""
    backbone_edit_share: float = 0.5
    """Of the captions, those that describe the picture as an edit of another."""

    finish_steps: PositiveInt = 1200
    finish_lr: PositiveFloat = 3e-4
    finish_warmup: PositiveInt = 50
    finish_average: float = 0.995
    """A second phase of the backbone, from its averaged weights, with mirrored animals."""

    wordings_steps: PositiveInt = 1200
    wordings_lr: PositiveFloat = 5e-4
    wordings_warmup: PositiveInt = 50
    wordings_average: float = 0.995
    wordings_edit_share: float = 0.7
    """A third phase of the text tower alone, as an edit needs many wordings and few pictures."""

    inverter_steps: PositiveInt = 2400
    inverter_batch: PositiveInt = 256
    inverter_lr: PositiveFloat = 5e-4
    inverter_warmup: PositiveInt = 20
    inverter_weight_decay: float = 0.01
    inverter_average: float = 0.0
    """Decay of a moving average of its weights, which is then kept; 0 keeps the last ones."""
    inverter_jitter: bool = False
    """Each step sees its pictures rotated, scaled and shifted a little, as the backbone does."""
    inverter_epsilon: float = 0.05
    """A latent attribute counts where its relevance is above this."""
    inverter_temperature: PositiveFloat = 0.2
    inverter_triplet_weight: float = 1.0
    """Of the loss on composed queries: a picture and an edit's wording towards the answer."""
    inverter_triplet_temperature: PositiveFloat = 0.1
    inverter_triplet_target: Literal["picture", "name"] = "picture"
    """What the answer is: the picture, or the sentence with its true name."""

    pictures: PositiveInt | None = None
    """At most so many emoji of each artwork, for a quick trial; None takes all."""

    precision: Precision = "auto"

    checkpoint_every: PositiveInt = 200
    log_every: PositiveInt = 10

    def identity(self, fields: set[str] | None = None) -> dict[str, object]:
        """The settings that the weights depend on: all, or those of ``fields``."""
        unrelated = {"checkpoint_every", "log_every"}
        return self.model_dump(include=fields, exclude=unrelated, exclude_none=True)

    def open_clip(self) -> dict[str, Any]:
        """The model as open_clip's ``open_clip_config.json`` describes it."""
        heads = self.width // 64
        vision = {
            "image_size": self.image_size,
            "patch_size": self.patch_size,
            "width": self.width,
            "layers": self.visual_layers,
        }
        text = {
            "context_length": 77,
            "vocab_size": 49408,
            "width": self.width,
            "heads": heads,
            "layers": self.text_layers,
        }
        return {
            "model_cfg": {"embed_dim": self.width, "vision_cfg": vision, "text_cfg": text},
            "preprocess_cfg": {
                "size": self.image_size,
                "mean": [0.5, 0.5, 0.5],
                "std": [0.5, 0.5, 0.5],
                "interpolation": "bicubic",
                "resize_mode": "shortest",
            },
        }
