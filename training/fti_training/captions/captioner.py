"""An image captioning model of transformers, with the constants of FTI4CIR."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fti_qdrant.errors import UnsupportedModel, first_line
from fti_qdrant.model.device import best_device
from fti_qdrant.model.precision import DTYPES
from fti_training.captions import DEFAULT_MODEL

GENERATION: dict[str, Any] = {
    "num_beams": 3,
    "min_new_tokens": 10,
    "max_new_tokens": 25,
    "do_sample": False,
}


def full_name(model: str) -> str:
    """The absolute path of a model folder, so that workers find it; hub names as they are."""
    return str(Path(model).resolve()) if Path(model).is_dir() else model


class Pixels:
    """The model's own image processing: an RGB picture -> float32 ``[3, H, W]``.

    It is small, so it is sent to the workers that decode, and the model need not wait for it.

    Attributes:
        nbytes: of one picture.
    """

    def __init__(self, model: str):
        """Reads the model's configuration, not its weights.

        Raises UnsupportedModel: an unknown name, not an image-to-text model, or one that needs
        more than pixels of one size.
        """
        import transformers
        from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

        _quiet()
        try:
            config = transformers.AutoConfig.from_pretrained(model)
            self._process = transformers.AutoImageProcessor.from_pretrained(model)
        except Exception as error:  # hub, JSON and transformers each have their own
            raise _unloadable(model, error) from error
        if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise UnsupportedModel(
                f"model {model!r} is of the kind {config.model_type!r}, which does not caption "
                f"images; use one such as {DEFAULT_MODEL}"
            )
        sizes = [self(Image.new("RGB", size)).shape for size in ((40, 30), (30, 40))]
        if len(sizes[0]) != 3 or sizes[0] != sizes[1]:
            raise UnsupportedModel(
                f"model {model!r} does not take pictures of one size, [3, H, W], but {sizes}; "
                f"use one such as {DEFAULT_MODEL}"
            )
        self.nbytes = 4 * int(np.prod(sizes[0]))

    def __call__(self, image: Image.Image) -> np.ndarray:
        values = self._process(images=[image], return_tensors="np")["pixel_values"]
        return np.ascontiguousarray(values[0], dtype=np.float32)


class Captioner:
    """Writes captions with beams 3 and 10 to 25 tokens (the settings of FTI4CIR).

    The model is given the picture alone: models that need a prompt are not supported.
    """

    def __init__(self, model: str, precision: str | None = None, device: str | None = None):
        """Loads the weights.

        Args:
            precision: fp32, bf16 or fp16; by default fp16 on cuda and fp32 elsewhere.
            device: by default cuda, else mps, else cpu.

        Raises UnsupportedModel: they are missing, truncated, or of another architecture.
        """
        import transformers

        _quiet()
        self.name = model
        self.device = device or best_device()
        self.dtype = DTYPES[precision or ("fp16" if self.device.startswith("cuda") else "fp32")]
        try:
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(model)
            loaded = transformers.AutoModelForImageTextToText.from_pretrained(
                model, dtype=self.dtype
            )
        except Exception as error:  # hub, safetensors and torch each have their own
            raise _unloadable(model, error) from error
        self._model = loaded.to(self.device).eval()

    @torch.inference_mode()
    def __call__(self, pixels: Sequence[np.ndarray]) -> list[str]:
        """B arrays ``[3, H, W]`` of ``Pixels`` -> B captions, as the model wrote them.

        Raises UnsupportedModel: the model needs more than a picture, or a batch does not fit into
        the memory of its device.
        """
        batch = torch.from_numpy(np.stack(pixels)).to(self.device, self.dtype)
        try:
            written = self._model.generate(pixel_values=batch, **GENERATION)
        except torch.OutOfMemoryError as error:
            raise UnsupportedModel(
                f"{self.device} has no memory for {len(pixels)} pictures at once; "
                "use a smaller --batch"
            ) from error
        except Exception as error:  # a model's own code, which misses a prompt
            raise UnsupportedModel(
                f"model {self.name!r} cannot caption a picture alone: {first_line(error)}"
            ) from error
        return [
            text.strip() for text in self._tokenizer.batch_decode(written, skip_special_tokens=True)
        ]


def _quiet() -> None:
    """Turns off the warnings of the hub and transformers; our errors report what matters."""
    import huggingface_hub
    import transformers

    huggingface_hub.utils.logging.set_verbosity_error()
    transformers.logging.set_verbosity_error()


def _unloadable(model: str, error: Exception) -> UnsupportedModel:
    return UnsupportedModel(
        f"model {model!r} cannot be loaded: {first_line(error)} "
        "(--model takes a name on the Hugging Face hub, or a folder)"
    )
