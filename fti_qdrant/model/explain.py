"""Pseudo-words -> the nearest real words: what the model took from an image."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch
import torch.nn.functional as F
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.inverter import PseudoWords
from fti_qdrant.model.names import local_folder
from fti_qdrant.model.prompts import PHOTO_OF

WORDS_FILE = "words.txt"
"""Beside a model's weights: the words that it was trained on, one per line."""

COMMON_WORDS = 3000
"""Without such a file: this many of the most frequent whole words of CLIP's vocabulary."""

CHUNK = 256


@dataclass(frozen=True)
class NearestWords:
    """The vocabulary words nearest to one pseudo-word, best first, with cosines."""

    token: str
    words: tuple[tuple[str, float], ...]


@dataclass(frozen=True)
class ImageWords:
    """The words nearest to an image's subject token, and to each of its r attribute tokens.

    Iterates over the subject and then the attributes.
    """

    subject: NearestWords
    attributes: tuple[NearestWords, ...]

    def __iter__(self) -> Iterator[NearestWords]:
        yield self.subject
        yield from self.attributes


class Explainer:
    """Compares pseudo-words with real words in the text encoder's output space.

    The cosine is between the features of "a photo of *" and of "a photo of {word}". The words
    are encoded on first use (some seconds with a large backbone on a CPU) and cached.
    """

    def __init__(self, backbone: Backbone):
        self.backbone = backbone
        self._features: Tensor | None = None

    @cached_property
    def words(self) -> list[str]:
        """The vocabulary, read on first use: opening a search must not wait for it."""
        return words_of(self.backbone.name)

    @torch.inference_mode()
    def explain(self, words: PseudoWords, most: int = 5) -> ImageWords:
        """The ``most`` nearest words of the first image's tokens."""
        count = int(words.counts[0])
        stars = torch.cat([words.subject[:1], words.attributes[0, :count]])
        tokens = self.backbone.prompts.composed([[0]] * len(stars), [""] * len(stars))
        features = F.normalize(self.backbone.text_features(tokens, stars).float(), dim=-1)
        cosines, rows = (features @ self._vocabulary().T).topk(min(most, len(self.words)), dim=1)
        nearest = [
            NearestWords(
                f"attribute {number}" if number else "subject",
                tuple(
                    (self.words[row], round(float(c), 4)) for c, row in zip(line, found.tolist())
                ),
            )
            for number, (line, found) in enumerate(zip(cosines, rows))
        ]
        return ImageWords(nearest[0], tuple(nearest[1:]))

    def _vocabulary(self) -> Tensor:
        if self._features is None:
            chunks = [self.words[at : at + CHUNK] for at in range(0, len(self.words), CHUNK)]
            self._features = torch.cat(
                [self.backbone.texts([f"{PHOTO_OF} {word}" for word in chunk]) for chunk in chunks]
            )
        return self._features


def words_of(model: str) -> list[str]:
    """The words to explain with: the model's own list, or CLIP's most frequent ones."""
    folder = local_folder(model)
    path = folder / WORDS_FILE if folder else Path(WORDS_FILE)
    if folder and path.is_file():
        return path.read_text(encoding="utf-8").split()
    return common_words()


@lru_cache(maxsize=1)
def common_words() -> list[str]:
    """Whole English words of CLIP's vocabulary, most frequent first, which is their order there."""
    whole = (token[:-4] for token in SimpleTokenizer().encoder if token.endswith("</w>"))
    return [word for word in whole if word.isascii() and word.isalpha() and len(word) > 2][
        :COMMON_WORDS
    ]
