"""A backbone whose towers OpenVINO runs, on a CPU; and an inverter.

Pseudo-words go in as input embeddings: what replaces token embeddings stays in PyTorch.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
from torch import Tensor, nn

from fti_qdrant.errors import UnsupportedModel
from fti_qdrant.model import precision as precisions
from fti_qdrant.model.features import ImageFeatures
from fti_qdrant.model.image_tower import visual_pass
from fti_qdrant.model.openvino_models import HINTS, CompiledModel, Compiler, openvino_package
from fti_qdrant.model.own_text_tower import OwnTextTower
from fti_qdrant.model.text_tower import TextTower
from fti_qdrant.model.tokens import Tokens

if TYPE_CHECKING:
    from fti_qdrant.model.backbone import Backbone
    from fti_qdrant.model.inverter import Inverter, PseudoWords

logger = logging.getLogger(__name__)

Backend = Literal["torch", "openvino"]


def check_backend(backend: str, device: str | None, precision: str | None) -> None:
    """Raises UnsupportedModel for a backend that is not there, or not with these."""
    if backend not in get_args(Backend):
        raise UnsupportedModel(f"unknown backend {backend!r}; use torch or openvino")
    if backend == "torch":
        return
    if device is not None and not device.startswith("cpu"):
        raise UnsupportedModel(
            f"backend 'openvino' runs on a CPU, not on device {device!r}; leave out the device"
        )
    if precision not in (None, *HINTS):
        raise UnsupportedModel(
            f"backend 'openvino' computes in fp32 or bf16, not in {precision}; leave out the "
            "precision"
        )
    openvino_package()


def use_openvino(backbone: Backbone, precision: str | None) -> None:
    """Puts compiled towers in place of a backbone's own, which is in fp32 on the CPU.

    Args:
        precision: by default bf16, on a CPU that multiplies it, where a probe shows that it hardly
            changes the features.
    """
    exact = None
    if precision is None and precisions.bf16_pays(backbone):
        exact = precisions.probe(backbone)
    visual, text = backbone.visual, backbone.text
    _compile_towers(backbone, visual, text, precision or ("fp32" if exact is None else "bf16"))
    if exact is not None:
        cosine = precisions.least_cosine(exact, precisions.probe(backbone))
        logger.info("OpenVINO in bf16: cosine to fp32 is %.5f on a probe", cosine)
        if cosine < precisions.MIN_COSINE:
            _compile_towers(backbone, visual, text, "fp32")


def _compile_towers(backbone: Backbone, visual: Any, text: Any, precision: str) -> None:
    fingerprint = backbone.fingerprint
    compiler = Compiler(precision, fingerprint.weights, fingerprint.activation)
    side, tokens = backbone.preprocess.size, backbone.abilities.patch_tokens
    images = compiler.compile(
        "image tower",
        lambda: _ImageTower(visual, tokens),
        (torch.rand(2, 3, side, side),),
        (-1, 3, side, side),
    )
    ids = backbone.tokenize(["a photo", "a photo of a dog"])
    backbone.backend = "openvino"
    backbone.visual = CompiledImageTower(images)
    if isinstance(text, TextTower):
        backbone.text = CompiledTextTower(_compiled_text(compiler, text, ids), text)
    else:
        encode = compiler.compile(
            "text tower", lambda: _OwnText(text), (ids.ids,), (-1, ids.ids.shape[1])
        )
        backbone.text = CompiledTextTower(encode, text)


def _compiled_text(compiler: Compiler, text: TextTower, ids: Tokens) -> CompiledModel:
    embedded, positions = text.embedding(ids, None)
    length = -1 if text.embedding.cuts else embedded.shape[1]
    return compiler.compile(
        "text tower",
        lambda: _Text(text),
        (embedded, positions),
        (-1, length, embedded.shape[2]),
        (-1,),
    )


class CompiledImageTower(nn.Module):
    """What ``image_tower.visual_pass`` needs of a tower."""

    def __init__(self, run: CompiledModel):
        super().__init__()
        self.run = run

    def forward(self, normalized: Tensor) -> Tensor:
        return self.run(normalized.float())[0]

    def forward_intermediates(self, normalized: Tensor, **_: object) -> dict[str, Any]:
        pooled, tokens = self.run(normalized.float())
        return {"image_features": pooled, "image_intermediates": [tokens]}


class CompiledTextTower(nn.Module):
    """What ``Backbone`` needs of a text tower; token embeddings are looked up by PyTorch."""

    packs = False

    def __init__(self, run: CompiledModel, text: TextTower | OwnTextTower):
        super().__init__()
        self.run = run
        self.embedding = text.embedding if isinstance(text, TextTower) else None
        self.causal, self.dim, self.token_dim = text.causal, text.dim, text.token_dim

    def forward(self, tokens: Tokens, words: Tensor | None = None) -> Tensor:
        """Raises UnsupportedModel for words that a gradient is asked for."""
        if self.embedding is None:
            return self.run(tokens.ids)[0]
        if words is not None and words.requires_grad and torch.is_grad_enabled():
            raise UnsupportedModel("backend 'openvino' has no gradients; train with 'torch'")
        return self.run(*self.embedding(tokens, words))[0]


def compiled_inverter(inverter: Inverter) -> CompiledInverter:
    """An inverter in fp32: a rounded relevance may fall on the other side of its threshold."""
    sizes = inverter.sizes
    compiler = Compiler("fp32", inverter.weights_hash, str(inverter.topk), str(inverter.epsilon))
    example = (torch.rand(2, sizes[1]), torch.rand(2, 5, sizes[0]))
    run = compiler.compile(
        "inverter", lambda: _Inverter(inverter), example, (-1, sizes[1]), (-1, -1, sizes[0])
    )
    return CompiledInverter(run)


class CompiledInverter:
    """Image features -> pseudo-words, as ``Inverter``."""

    def __init__(self, run: CompiledModel):
        self.run = run

    def __call__(self, features: ImageFeatures) -> PseudoWords:
        from fti_qdrant.model.inverter import PseudoWords

        return PseudoWords(*self.run(features.pooled, features.required_tokens()))


class _ImageTower(nn.Module):
    """The image tower as a function of one tensor."""

    def __init__(self, visual: nn.Module, tokens: bool):
        super().__init__()
        self.visual, self.tokens = visual, tokens

    def forward(self, normalized: Tensor) -> Any:
        features = visual_pass(self.visual, normalized, tokens=self.tokens)
        return (features.pooled, features.tokens) if self.tokens else features.pooled


class _Text(nn.Module):
    """CLIP's text tower from embedded tokens on."""

    def __init__(self, text: TextTower):
        super().__init__()
        self.text = text

    def forward(self, embedded: Tensor, ends: Tensor) -> Tensor:
        return self.text.encode(embedded, ends)


class _OwnText(nn.Module):
    def __init__(self, text: OwnTextTower):
        super().__init__()
        self.text = text

    def forward(self, ids: Tensor) -> Tensor:
        return self.text.encode(ids)


class _Inverter(nn.Module):
    def __init__(self, inverter: Inverter):
        super().__init__()
        self.inverter = inverter

    def forward(self, pooled: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        words = self.inverter(ImageFeatures(pooled, tokens))
        return words.subject, words.attributes, words.counts
