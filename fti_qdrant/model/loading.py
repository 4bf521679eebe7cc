"""Models by name; mistakes that open_clip loads in silence become errors."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import open_clip
from huggingface_hub import try_to_load_from_cache
from open_clip.pretrained import get_pretrained_cfg
from torch import nn

from fti_qdrant.errors import ModelMismatch, UnsupportedModel, first_line
from fti_qdrant.images import Preprocess
from fti_qdrant.model.hub import fetching, quiet
from fti_qdrant.model.image_tower import preprocess_of
from fti_qdrant.model.names import LOCAL, MINI, TRANSFORMERS, is_transformers, local_folder
from fti_qdrant.model.transformers_clip import load_transformers_clip
from fti_qdrant.model.transformers_weights import PICKLED, SAFETENSORS

HUB = "hf-hub:"
"""Prefix of a hub repository with a model of open_clip."""

SAFE_WEIGHTS, WEIGHTS = "open_clip_model.safetensors", "open_clip_pytorch_model.bin"
"""open_clip's names of a model's weights."""


class LoadedModel(NamedTuple):
    """A model as open_clip builds it, and what goes with it.

    Attributes:
        tokenizer: open_clip's, or a ``Vocabulary``.
        preprocess: its default.
        files: that the weights came from, as far as they are known.
    """

    model: nn.Module
    tokenizer: Any
    preprocess: Preprocess
    files: Sequence[Path]


def load_model(name: str) -> LoadedModel:
    """A pretrained model by any name that ``Backbone.load`` takes.

    Raises UnsupportedModel, ModelMismatch.
    """
    if is_transformers(name):
        return LoadedModel(*load_transformers_clip(name))
    model, tokenizer = load_open_clip(name)
    file = weights_file(name)
    return LoadedModel(model, tokenizer, preprocess_of(model.visual), [file] if file else [])


def load_open_clip(name: str) -> tuple[nn.Module, Any]:
    """A pretrained open_clip model and its tokenizer. Raises UnsupportedModel, ModelMismatch."""
    architecture, pretrained = split_name(name)
    if pretrained is not None:
        check_activation(architecture, pretrained)
    try:
        with quiet() if local_folder(name) else fetching():
            check_no_remote_code(name, open_clip.get_model_config(architecture) or {})
            model = open_clip.create_model(
                architecture, pretrained=pretrained, require_pretrained=True
            )
            return model, open_clip.get_tokenizer(architecture)
    except UnsupportedModel:
        raise
    except Exception as error:
        if "transformers" in str(error) and find_spec("transformers") is None:
            raise UnsupportedModel(
                f"model {name!r} needs transformers for its texts: pip install 'fti-qdrant[hf]'"
            ) from error
        other = "; a CLIPModel of transformers is hf:ORG/REPO" if name.startswith(HUB) else ""
        raise UnsupportedModel(
            f"model {name!r} cannot be loaded: {first_line(error)}{other}"
        ) from error


def check_no_remote_code(name: str, config: dict[str, Any]) -> None:
    """Refuses a model whose configuration asks for code from its repository to be run."""
    options = config.get("text_cfg", {}).get("tokenizer_kwargs") or {}
    if options.get("trust_remote_code"):
        raise UnsupportedModel(
            f"model {name!r} asks to run code from its repository for its tokenizer, which is "
            "never done; use a model without such code"
        )


def split_name(name: str) -> tuple[str, str | None]:
    """``mini`` and our names -> open_clip's (model name, pretrained tag). Raises."""
    if name == "mini":
        return f"local-dir:{MINI}", None
    if name.startswith((HUB, LOCAL)) or is_transformers(name):
        return name, None
    architecture, _, pretrained = name.partition("/")
    if architecture not in open_clip.list_models():
        raise UnsupportedModel(
            f"unknown model {name!r}; use mini, ARCH/PRETRAINED such as "
            "ViT-B-32/laion2b_s34b_b79k, hf-hub:ORG/REPO of open_clip, hf:ORG/REPO of "
            "transformers, a name such as clip-ViT-B-32, or the folder of a model"
        )
    if not pretrained:
        tags = open_clip.list_pretrained_tags_by_model(architecture)
        choices = ", ".join(f"{architecture}/{tag}" for tag in tags) or "none are published"
        raise UnsupportedModel(f"model {name!r} names no weights; choose one of: {choices}")
    return architecture, pretrained


def weights_file(name: str) -> Path | None:
    """The file that a loaded model's weights came from, found without any network; None if unsure.

    It names the model in the cache of weights hashes, and nothing is loaded from it.
    """
    folder = local_folder(name)
    if folder is not None:
        names = (SAFE_WEIGHTS, "open_clip_pytorch_model.safetensors", WEIGHTS)
        return next((folder / one for one in names if (folder / one).is_file()), None)
    if name.startswith(HUB):
        return _hub_file(name.removeprefix(HUB), WEIGHTS)
    config = get_pretrained_cfg(*name.split("/", 1)) or {}
    if config.get("hf_hub"):
        repository, _, file = config["hf_hub"].rpartition("/")
        return _hub_file(repository, file or WEIGHTS)
    if config.get("url"):
        path = Path("~/.cache/clip").expanduser() / config["url"].rpartition("/")[2]
        return path if path.is_file() else None
    return None


def names_weights(text: str) -> bool:
    """Whether a text can only be a model's name: it has a prefix of ours, or is open_clip's.

    Example:
        >>> [names_weights(text) for text in ("ViT-B-32/openai", "hf:org/clip", "shop/photos")]
        [True, True, False]
    """
    if text.startswith((HUB, LOCAL, TRANSFORMERS)):
        return True
    return tuple(text.split("/", 1)) in open_clip.list_pretrained()


def on_this_machine(name: str) -> bool:
    """Whether a model could be loaded without fetching its weights; looked up without a network."""
    if local_folder(name) is not None:
        return True
    if is_transformers(name):
        repository, _, revision = name.removeprefix(TRANSFORMERS).partition("@")
        files = (SAFETENSORS, PICKLED)
        found = [
            try_to_load_from_cache(repository, file, revision=revision or None) for file in files
        ]
        return any(isinstance(one, str) for one in found)
    return weights_file(name) is not None


def _hub_file(repository: str, name: str) -> Path | None:
    """A file in the local cache of the Hugging Face hub, safetensors first."""
    safe = SAFE_WEIGHTS if name == WEIGHTS else f"{name.rpartition('.')[0]}.safetensors"
    for one in (safe, name):
        found = try_to_load_from_cache(repository, one)
        if isinstance(found, str):
            return Path(found)
    return None


def check_activation(architecture: str, pretrained: str) -> None:
    """Refuses weights trained with QuickGELU in an architecture with plain GELU, or the reverse.

    They would load, and give worse results in silence (open_clip issue 771).
    """
    weights = get_pretrained_cfg(architecture, pretrained)
    config = open_clip.get_model_config(architecture) or {}
    if not weights:
        return
    trained, built = bool(weights.get("quick_gelu")), bool(config.get("quick_gelu"))
    if trained == built:
        return
    plain = architecture.removesuffix("-quickgelu")
    right = f"{plain}-quickgelu" if trained else plain
    raise ModelMismatch(
        f"{architecture}/{pretrained}: the weights were trained with "
        f"{'QuickGELU' if trained else 'GELU'} and the architecture has "
        f"{'QuickGELU' if built else 'GELU'}; use {right}/{pretrained}"
    )
