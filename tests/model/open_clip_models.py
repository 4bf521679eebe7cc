"""Small random open_clip models of every family, as folders that open_clip loads."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import open_clip
import torch
from safetensors.torch import save_file

CLIP_TEXT = {"context_length": 77, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2}
VIT = {"image_size": 32, "patch_size": 16, "width": 48, "head_width": 16, "layers": 2}
VOCABULARY = ["<s>", "<pad>", "</s>", "<unk>", "a", "photo", "of", "red", "blue", "dress", "but"]


def timm(name: str, size: int, pool: str = "", projection: str | None = "linear") -> dict[str, Any]:
    """A tower of timm's."""
    return {
        "timm_model_name": name,
        "timm_pool": pool,
        "timm_proj": projection,
        "image_size": size,
    }


def roberta(folder: Path) -> dict[str, Any]:
    """A multilingual tower: transformers' XLM-RoBERTa with a tokenizer, both in ``folder``."""
    from transformers import XLMRobertaConfig

    words_to_folder(folder, "<s> $A </s>")
    XLMRobertaConfig(
        vocab_size=len(VOCABULARY),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=40,
        pad_token_id=1,
    ).save_pretrained(folder)
    names = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    return {**names, "hf_pooler_type": "mean_pooler", "context_length": 16}


def nllb(folder: Path) -> dict[str, Any]:
    """The encoder half of transformers' M2M100, as NLLB-CLIP has."""
    from transformers import M2M100Config

    words_to_folder(folder, "<s> $A </s>")
    M2M100Config(
        vocab_size=len(VOCABULARY),
        d_model=32,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_position_embeddings=40,
        pad_token_id=1,
        decoder_start_token_id=2,
    ).save_pretrained(folder)
    names = {"hf_model_name": str(folder), "hf_tokenizer_name": str(folder)}
    projection = {"hf_proj_type": "linear", "hf_pooler_type": "cls_pooler"}
    return {**names, **projection, "context_length": 16}


def words_to_folder(folder: Path, template: str) -> None:
    """Saves a transformers tokenizer of ``VOCABULARY`` that spells a text by a template."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    ids = {word: number for number, word in enumerate(VOCABULARY)}
    inner = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Whitespace()
    inner.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=inner, **special).save_pretrained(folder)


def coca(folder: Path) -> dict[str, Any]:
    """Class tokens in the text, attentional pooling, and a decoder that search never runs."""
    pooling = {"attentional_pool": True, "attn_pooler_heads": 2, "output_tokens": True}
    text = CLIP_TEXT | {"context_length": 76, "embed_cls": True, "output_tokens": True}
    decoder = {"context_length": 76, "width": 32, "heads": 2, "layers": 1, "attn_pooler_heads": 2}
    return {
        "vision_cfg": VIT | pooling,
        "text_cfg": text,
        "multimodal_cfg": {**decoder, "vocab_size": 49408},
        "custom_text": True,
    }


def with_clip_text(vision: dict[str, Any], **text: Any) -> dict[str, Any]:
    return {"vision_cfg": vision, "text_cfg": CLIP_TEXT | text}


RESNET = {"layers": [1, 1, 1, 1], "width": 16, "image_size": 64, "head_width": 32}
SIGLIP = {"no_causal_mask": True, "pool_type": "last", "proj_bias": True, "context_length": 20}

FAMILIES: dict[str, Callable[[Path], dict[str, Any]]] = {
    "vit": lambda folder: with_clip_text(VIT),
    "resnet": lambda folder: with_clip_text(RESNET),
    "convnext": lambda folder: with_clip_text(timm("test_convnext", 160)),
    "mobileclip": lambda folder: {
        **with_clip_text(timm("fastvit_t8", 64, "avg", None), no_causal_mask=True),
        "custom_text": True,
    },
    "coca": coca,
    "siglip": lambda folder: {
        **with_clip_text(timm("test_vit3", 160, "map"), **SIGLIP),
        "custom_text": True,
    },
    "pe-core": lambda folder: {
        **with_clip_text(timm("vit_pe_core_tiny_patch16_384", 384, "map", None), context_length=32),
        "custom_text": True,
    },
    "roberta": lambda folder: {"vision_cfg": VIT, "text_cfg": roberta(folder)},
    "nllb": lambda folder: {"vision_cfg": timm("test_vit3", 160, "map"), "text_cfg": nllb(folder)},
    "clipa": lambda folder: (
        with_clip_text(VIT | {"pool_type": "avg"}) | {"text_cfg": CLIP_TEXT | no_end(folder)}
    ),
}
"""Family -> the model's configuration; what it needs beside that is written into the folder."""

WITH_INVERSION = {"vit", "siglip", "pe-core"}
"""Families that an inverter can be trained for."""


def no_end(folder: Path) -> dict[str, Any]:
    """A tokenizer that ends no text with an end-of-text token, as CLIPA's."""
    words_to_folder(folder, "<s> $A")
    tokenizer = {"hf_tokenizer_name": str(folder), "tokenizer_kwargs": {"clean": "lower"}}
    return {**tokenizer, "pool_type": "last", "no_causal_mask": True, "context_length": 16}


def save_family(family: str, folder: Path) -> str:
    """Writes a random model of the family; returns the name that it is loaded by."""
    torch.manual_seed(3)
    folder.mkdir(parents=True, exist_ok=True)
    config = {"embed_dim": 24, **FAMILIES[family](folder)}
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    model = open_clip.create_model(f"local-dir:{folder}", pretrained_text=False)
    with torch.no_grad():  # nothing is left at zero or one, as in a trained model
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
        for part in model.modules():
            if isinstance(part, torch.nn.BatchNorm2d):
                part.running_mean.normal_(std=0.1)
                part.running_var.uniform_(0.5, 1.5)
                part.weight.uniform_(0.5, 1.5)
    weights = {name: value.clone().contiguous() for name, value in model.state_dict().items()}
    save_file(weights, folder / "open_clip_model.safetensors")
    return f"local-dir:{folder}"
