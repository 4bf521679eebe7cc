"""``fti-train mini`` from end to end: pictures -> backbone -> inverter -> figures -> card."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from fti_qdrant.benchmarks.emoji.edits import KNOWN_WORDINGS, PARAPHRASES, UNSEEN_WORDINGS, edits
from fti_qdrant.benchmarks.emoji.facts import Emoji
from fti_qdrant.benchmarks.emoji.paraphrases import training_wordings
from fti_qdrant.benchmarks.emoji.wordings import Wordings
from fti_qdrant.composers.composer import Composer
from fti_qdrant.composers.defaults import OPTIONS_FILE
from fti_qdrant.errors import FtiError
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.closed_vocabulary import VOCABULARY_FILE, words_in
from fti_qdrant.model.explain import WORDS_FILE
from fti_qdrant.model.inverter import Inverter
from fti_qdrant.model.inverter_loading import load_inverter, save_inverter
from fti_training.mini import evaluate
from fti_training.mini.backbone import (
    BackbonePhase,
    fresh_clip,
    load_open_clip,
    phases,
    save_open_clip,
    train_backbone,
    wrap,
)
from fti_training.mini.captions import EXTRA_WORDINGS
from fti_training.mini.card import Start, write_card
from fti_training.mini.config import MiniConfig
from fti_training.mini.inverter import train_inverter
from fti_training.mini.pictures import Pictures, TrainingSet, draw_artworks

TRAINING = "training"
"""Subfolder of the output with checkpoints and logs; not part of the model."""

GALLERY_ARTWORK = "twemoji"

COMPOSER_OPTIONS = {
    "sum": {"text_weight": 0.45},
    "slerp": {"text_weight": 0.45},
    "pdv": {"text_weight": 0.8, "image_step": 1.2},
}
"""The best on the seen emoji edits, by ``python bench/composer_options.py``."""

Recalls = dict[str, float]

Figures = dict[str, dict[str, Recalls]]
"""Question -> method -> measure -> value."""


@dataclass(frozen=True)
class Mini:
    """A trained mini model in a folder, ready for ``Composer.load("local-dir:...")``."""

    folder: Path
    composer: Composer

    @staticmethod
    def load(folder: Path) -> Mini:
        """Raises UnsupportedModel or CheckpointError where the folder is incomplete."""
        backbone = Backbone.load(f"local-dir:{folder}")
        return Mini(folder, Composer(backbone, load_inverter(str(folder / "inverter"))))


def train_mini(config: MiniConfig, out: Path, start: Path | None = None) -> Figures:
    """Trains what is not trained yet, writes the model and its card, returns the figures.

    Args:
        start: a mini model whose visual tower is kept: only its text tower, from its weights, and
            a new inverter are trained.

    Raises:
        CheckpointError: ``start`` has no backbone of these sizes.
        FtiError: the pictures are too few.
    """
    model = fresh_clip(config)
    if start is not None:
        load_open_clip(config, model, start)
    begun = None if start is None else Start(start, wrap(model).fingerprint.weights)
    drawn = draw_artworks(wrap(model).preprocess, config.pictures)
    shown = drawn[GALLERY_ARTWORK]
    if not any(edit.target.held_out for edit in edits(shown.emoji)):
        raise FtiError(f"pictures={config.pictures} has no held-out edit; set 600 or more")
    data, with_mirrors = TrainingSet(drawn), TrainingSet(drawn, mirrors=True)
    probe = partial(probe_text, shown=shown)
    for phase in phases(config) if start is None else (BackbonePhase.wordings(config),):
        pictures = with_mirrors if phase.mirrors else data
        train_backbone(config, phase, model, pictures, out / TRAINING, probe)
    write_backbone(config, model, data, out)
    inverter = train_inverter_of(config, data, shown, out)
    save_inverter(inverter.half(), out / "inverter")
    figures = measure(Mini.load(out).composer, shown)
    (out / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    write_card(out, config, figures, begun)
    return figures


def write_backbone(config: MiniConfig, model: nn.Module, data: TrainingSet, out: Path) -> None:
    """Writes the weights, the words that they have learned, and their options of the composers."""
    save_open_clip(config, model, out)
    write_words(out, data)
    (out / OPTIONS_FILE).write_text(json.dumps(COMPOSER_OPTIONS, indent=2) + "\n", encoding="utf-8")


def train_inverter_of(
    config: MiniConfig, data: TrainingSet, shown: Pictures, out: Path
) -> Inverter:
    """Trains the inverter of the backbone that is written in ``out``."""
    backbone = Backbone.load(f"local-dir:{out}", precision="fp32")
    gallery = evaluate.embed(backbone, shown)

    def probe(inverter: Inverter) -> Recalls:
        with torch.inference_mode():
            return probe_composed(Composer(backbone, inverter), gallery)

    return train_inverter(config, backbone, data, out / TRAINING, probe)


def write_words(folder: Path, data: TrainingSet) -> None:
    """Writes the words that the model was trained on: for explanations, and to read texts by."""
    words = {word for emoji in data.distinct for word in emoji.name.lower().split()}
    trained = sorted(word for word in words if word.isalpha() and len(word) > 2)
    (folder / WORDS_FILE).write_text("\n".join(trained) + "\n", encoding="utf-8")
    learned = sorted(learned_words(data.distinct, TRAINED_WORDINGS))
    (folder / VOCABULARY_FILE).write_text("\n".join(learned) + "\n", encoding="utf-8")


def learned_words(trained: Sequence[Emoji], wordings: Sequence[Wordings]) -> set[str]:
    """The words of the emoji's names and values, and of the wordings of edits."""
    names = [emoji.name for emoji in trained]
    values = [value for emoji in trained for value in emoji.facets.values()]
    templates = [
        _SLOTS.sub(" ", template)
        for each in wordings
        for templates in each.values()
        for template in templates
    ]
    return words_in([*names, *values, *templates])


TRAINED_WORDINGS = (KNOWN_WORDINGS, EXTRA_WORDINGS, training_wordings())
"""What ``Captioner`` writes edits in."""

_SLOTS = re.compile(r"\{\w+\}")

PARAPHRASES_QUESTION = "unused paraphrases"

PARAPHRASED = ("pdv", "fti", "subject", "sum", "image")
"""The composers that are measured on paraphrases."""


def measure(composer: Composer, shown: Pictures) -> Figures:
    """Every figure of the model card, on combinations that were held out of training."""
    gallery = evaluate.embed(composer.backbone, shown)
    return {
        "text to image": {"text": evaluate.text_to_image(composer.backbone, gallery)},
        "known wordings": measure_wordings(composer, gallery, KNOWN_WORDINGS),
        "unseen wordings": measure_wordings(composer, gallery, UNSEEN_WORDINGS),
        PARAPHRASES_QUESTION: measure_paraphrases(composer, gallery),
    }


def measure_wordings(
    composer: Composer, gallery: evaluate.Gallery, wordings: Wordings
) -> dict[str, Recalls]:
    """Method -> recalls on the held-out edits, each in one wording."""
    asked = evaluate.held_out_edits(gallery)
    texts = evaluate.texts_of(asked, wordings)
    named = evaluate.named_ranks(composer.backbone, gallery, asked, texts)
    return {
        **evaluate.composed(composer, gallery, asked, wordings=wordings),
        "true name": evaluate.recalls(named),
    }


def measure_paraphrases(
    composer: Composer,
    gallery: evaluate.Gallery,
    methods: Sequence[str] = PARAPHRASED,
    every: int = 1,
) -> dict[str, Recalls]:
    """Method -> recalls and variation over the unused paraphrases of the held-out edits.

    Args:
        every: take each edit whose number is a multiple of this.
    """
    asked, texts = evaluate.paraphrased(evaluate.held_out_edits(gallery)[::every])
    ranks = evaluate.composed_ranks(composer, gallery, asked, texts, methods)
    ranks["true name"] = evaluate.named_ranks(composer.backbone, gallery, asked, texts)
    return {
        method: {**evaluate.recalls(found), **evaluate.spread(found, PARAPHRASES)}
        for method, found in ranks.items()
    }


def probe_text(backbone: Backbone, shown: Pictures) -> Recalls:
    """For the log of the backbone's training."""
    gallery = evaluate.embed(backbone, shown)
    asked = evaluate.held_out_edits(gallery)
    named = evaluate.named_ranks(backbone, gallery, asked, evaluate.texts_of(asked))
    pictures = evaluate.text_to_image(backbone, gallery)
    return {**_prefixed("t2i", pictures), **_prefixed("named", evaluate.recalls(named))}


def probe_composed(composer: Composer, gallery: evaluate.Gallery) -> Recalls:
    """For the log of the inverter's training."""
    asked = evaluate.held_out_edits(gallery)
    figures = evaluate.composed(composer, gallery, asked, ("fti", "subject"))
    return {**_prefixed("fti", figures["fti"]), **_prefixed("subject", figures["subject"])}


def _prefixed(name: str, figures: Recalls) -> Recalls:
    return {f"{name}_{measure}": value for measure, value in figures.items()}
