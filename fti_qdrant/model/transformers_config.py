"""What the JSON files of a CLIP of transformers say: its towers, and how its pictures are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from PIL import Image
from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.images import Preprocess
from fti_qdrant.model.checkpoint_files import CheckpointFiles
from fti_qdrant.model.names import TRANSFORMERS_CONFIG

LEGACY_END = 2
"""An ``eos_token_id`` that old configurations have: the end is then the highest token id."""


class TextConfig(BaseModel):
    """transformers' ``CLIPTextConfig``, with its defaults."""

    vocab_size: int = 49408
    hidden_size: int = 512
    intermediate_size: int = 2048
    num_hidden_layers: int = 12
    num_attention_heads: int = 8
    max_position_embeddings: int = 77
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5
    eos_token_id: int = 49407


class VisionConfig(BaseModel):
    """transformers' ``CLIPVisionConfig``, with its defaults."""

    hidden_size: int = 768
    intermediate_size: int = 3072
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    num_channels: int = 3
    image_size: int = 224
    patch_size: int = 32
    hidden_act: str = "quick_gelu"
    layer_norm_eps: float = 1e-5

    @field_validator("image_size", "patch_size", mode="before")
    @classmethod
    def _one_side(cls, value: Any) -> Any:
        """``[224, 224]`` is 224; sides that differ are left for the validation to refuse."""
        same = isinstance(value, (list, tuple)) and len(set(value)) == 1
        return value[0] if same else value


class ClipConfig(BaseModel):
    """transformers' ``CLIPConfig``."""

    text_config: TextConfig = Field(default_factory=TextConfig)
    vision_config: VisionConfig = Field(default_factory=VisionConfig)
    projection_dim: int = 512

    @model_validator(mode="before")
    @classmethod
    def _old_names(cls, values: dict[str, Any]) -> dict[str, Any]:
        """Of ``text_config`` and the older ``text_config_dict``, the older one counts."""
        values = {key: value for key, value in values.items() if value is not None}
        for name in ("text_config", "vision_config"):
            values[name] = values.get(f"{name}_dict", values.get(name, {}))
        return values


def read_clip_config(files: CheckpointFiles) -> ClipConfig:
    """Reads ``config.json``. Raises UnsupportedModel for a model that is not a CLIP."""
    values = files.read_json(files.require(TRANSFORMERS_CONFIG))
    kind = values.get("model_type")
    if kind != "clip":
        raise UnsupportedModel(
            f"model {files.name!r} is not a CLIPModel of transformers: config.json says "
            f"model_type {kind!r}; use a CLIPModel, or a model of open_clip, which has SigLIP, "
            "MobileCLIP, CoCa and others"
        )
    try:
        config = ClipConfig.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UnsupportedModel(
            f"model {files.name!r}: config.json: {where}: {first['msg']}, got {first['input']!r}"
        ) from error
    if config.vision_config.num_channels != 3:
        raise UnsupportedModel(
            f"model {files.name!r} takes pictures of {config.vision_config.num_channels} channels; "
            "only RGB works"
        )
    return config


class Processor(BaseModel):
    """transformers' ``CLIPImageProcessor``, with its defaults."""

    do_resize: bool = True
    size: int | dict[str, int] = 224
    resample: Image.Resampling = Image.Resampling.BICUBIC
    do_center_crop: bool = True
    crop_size: int | dict[str, int] = 224
    do_rescale: bool = True
    rescale_factor: float = 1 / 255
    do_normalize: bool = True
    image_mean: tuple[float, float, float] = OPENAI_DATASET_MEAN
    image_std: tuple[float, float, float] = OPENAI_DATASET_STD


def read_preprocess(files: CheckpointFiles, size: int) -> Preprocess:
    """Reads ``preprocessor_config.json``: the preprocessing that transformers itself does.

    Args:
        size: side of the vision tower's input; also what is taken where there is no such file.

    Raises UnsupportedModel for a preprocessing that does not make squares of this size.
    """
    values = _processor_values(files)
    if values is None:
        values = {"size": size, "crop_size": size}
    try:
        processor = Processor.model_validate(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise UnsupportedModel(
            f"model {files.name!r}: preprocessor_config.json: {first['loc'][0]}: {first['msg']}, "
            f"got {first['input']!r}"
        ) from error
    found = _preprocess_of(processor)
    if found is None or found.size != size:
        raise UnsupportedModel(
            f"model {files.name!r}: its preprocessing does not make squares of {size} pixels, "
            f"which its vision tower takes: {processor}"
        )
    return found


def _processor_values(files: CheckpointFiles) -> dict[str, Any] | None:
    path = files.find("preprocessor_config.json")
    if path is not None:
        return _without_none(files.read_json(path))
    path = files.find("processor_config.json")  # of transformers 5, which joins the two
    nested = files.read_json(path).get("image_processor") if path is not None else None
    return _without_none(nested) if isinstance(nested, dict) else None


def _without_none(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _preprocess_of(processor: Processor) -> Preprocess | None:
    """None where the result is not a square, or its values not in 0..1 before normalization."""
    rescaled = processor.do_rescale and abs(processor.rescale_factor * 255 - 1) < 1e-6
    if not processor.do_resize or not rescaled:
        return None
    mean, std = (processor.image_mean, processor.image_std)
    if not processor.do_normalize:
        mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    interpolation = processor.resample.name.lower()
    size = processor.size
    if isinstance(size, dict) and size.keys() >= {"height", "width"}:
        if size["height"] != size["width"]:
            return None
        if processor.do_center_crop and _square(processor.crop_size) != size["height"]:
            return None
        return Preprocess(size["height"], mean, std, "squash", interpolation)
    shorter = size if isinstance(size, int) else size.get("shortest_edge")
    side = _square(processor.crop_size)
    if shorter is None or side is None or not processor.do_center_crop or side > shorter:
        return None
    other = 0 if shorter == side else shorter
    return Preprocess(side, mean, std, "center-crop", interpolation, other, "down")


def _square(size: int | dict[str, int]) -> int | None:
    if isinstance(size, int):
        return size
    height, width = size.get("height"), size.get("width")
    return height if height == width else None
