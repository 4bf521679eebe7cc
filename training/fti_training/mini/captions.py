"""Captions for the mini backbone: names, sentences, and pictures described as edits of others."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fti_qdrant.benchmarks.emoji.edits import (
    KNOWN_WORDINGS,
    UNSEEN_WORDS,
    changed_facets,
    families,
)
from fti_qdrant.benchmarks.emoji.facts import Emoji
from fti_qdrant.model.prompts import BUT, PHOTO_OF, WITH
from fti_qdrant.model.tokens import Vocabulary

EXTRA_WORDINGS = {
    "gender": ("{value}", "make it a {value}", "as {value}"),
    "tone": ("{value}", "in {value}", "make it {value}"),
    "hair": ("{value}", "make it {value}", "a {value} version"),
    "direction": ("{value} this time", "make it {value}", "looking the other way, {value}"),
    "color": ("{value}", "with {value}", "make it {value}"),
    "time": ("{value}", "with {value}", "make it {value}"),
}
"""Wordings of an edit, in addition to the benchmark's known ones."""

EDIT_SHARE = 0.5
SENTENCE_SHARE = 0.25
STRANGER_SHARE = 0.1
NOISE_SHARE = 0.2


class Captioner:
    """Writes a new caption for a picture at each call.

    Half of the captions of an emoji with siblings describe it as an edit of one of them, "a photo
    of man firefighter, dark skin tone but as a woman": web-scale captions teach a CLIP some of
    this language, and a few thousand names teach none of it. Random words of the vocabulary are
    mixed into some captions, so that an unknown word does little harm.
    """

    def __init__(self, trained: Sequence[Emoji], vocabulary: Vocabulary, rng: random.Random):
        self.rng = rng
        self.trained = trained
        self.families = families(trained)
        self.encode = vocabulary.encode
        self.encoded: dict[str, list[int]] = {}
        unseen = {token for word in UNSEEN_WORDS for token in vocabulary.encode(word)}
        self.words = [token for token in range(512, 49406) if token not in unseen]

    def tokens(self, emoji: Emoji) -> list[int]:
        """A new caption as token ids, without start and end tokens."""
        caption = self.caption(emoji)
        if caption not in self.encoded:
            self.encoded[caption] = self.encode(caption)
        line = list(self.encoded[caption])
        if self.rng.random() < NOISE_SHARE:
            for _ in range(self.rng.randint(1, 3)):
                line.insert(self.rng.randint(0, len(line)), self.rng.choice(self.words))
        return line

    def caption(self, emoji: Emoji) -> str:
        """A new caption in words."""
        draw = self.rng.random()
        if draw < EDIT_SHARE:
            return self._edit(emoji) or self._from_stranger(emoji) or self._name(emoji)
        if draw < EDIT_SHARE + SENTENCE_SHARE and emoji.attributes:
            return f"{PHOTO_OF} {self._sentence(emoji)}"
        return self._name(emoji)

    def _name(self, emoji: Emoji) -> str:
        form = self.rng.choice(("{}", "{}", PHOTO_OF + " {}", PHOTO_OF + " a {}", "an emoji of {}"))
        return form.format(self.rng.choice((emoji.name, self._sentence(emoji))))

    def _sentence(self, emoji: Emoji) -> str:
        attributes = emoji.attributes
        if not attributes:
            return emoji.name
        self.rng.shuffle(attributes)
        joined = self.rng.choice((" ", ", ", " and ")).join(attributes)
        return f"{emoji.subject} {WITH} {joined}"

    def _edit(self, target: Emoji) -> str | None:
        siblings = [
            (sibling, changed)
            for sibling in self.families[target.family]
            if 1 <= len(changed := changed_facets(sibling, target)) <= 2
            and all(facet in target.facets for facet in changed)
        ]
        if not siblings:
            return None
        single = [pair for pair in siblings if len(pair[1]) == 1]
        reference, changed = self.rng.choice(
            single if single and self.rng.random() < 0.85 else siblings
        )
        words = " and ".join(self._wording(facet, target.facets[facet]) for facet in changed)
        described = self.rng.choice((reference.name, self._sentence(reference)))
        return f"{PHOTO_OF} {described} {BUT} {words}"

    def _wording(self, facet: str, value: str) -> str:
        choices = KNOWN_WORDINGS[facet] + EXTRA_WORDINGS[facet]
        return self.rng.choice(choices).format(value=value)

    def _from_stranger(self, target: Emoji) -> str | None:
        """``a photo of {another emoji} but {name}``: the words after "but" describe the picture."""
        if self.rng.random() >= STRANGER_SHARE / EDIT_SHARE:
            return None
        return f"{PHOTO_OF} {self.rng.choice(self.trained).name} {BUT} {target.name}"
