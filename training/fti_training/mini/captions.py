"""Captions for the mini backbone: names, sentences, and pictures described as edits of others."""

from __future__ import annotations

import random
from collections.abc import Sequence

from fti_qdrant.benchmarks.emoji.edits import KNOWN_WORDINGS, changed_facets, families
from fti_qdrant.benchmarks.emoji.facts import Emoji
from fti_qdrant.benchmarks.emoji.paraphrases import training_wordings
from fti_qdrant.benchmarks.emoji.wordings import fill, slots_of
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

BEFORE = ("please", "ok,", "hey,", "hmm,", "well,", "yes,", "just", "now", "maybe", "but", "and")
AFTER = ("please", "now", "instead", "this time", "thanks", "for me", "if you can", "maybe")
"""Words that people put before and after what they ask for."""

EDIT_SHARE = 0.5
"""By default; of the other captions, half are sentences and half are names."""

SENTENCE_SHARE = 0.5
STRANGER_SHARE = 0.1
NOISE_SHARE = 0.2

PARAPHRASE_SHARE, NONSENSE_SHARE, FILLER_SHARE = 0.5, 0.15, 0.2
"""Of the wordings of edits: paraphrases, values among random words, and wordings with a filler."""

FIRST_WORD, LAST_WORD = 512, 49406
"""CLIP's token ids of more than one character; the more frequent a text is, the lower its id."""


class Captioner:
    """Writes a new caption for a picture at each call.

    Half of the captions (``edit_share``) of an emoji with siblings describe it as an edit of one
    of them, "a photo of man firefighter, dark skin tone but as a woman": web-scale captions teach
    a CLIP some of this language, and a few thousand names teach none of it. The edits are in the
    known and extra wordings, and in the training half of the paraphrases. Some have fillers, and
    some are the new value among random words, frequent ones more often: a model that has read
    these finds the value in a sentence whose structure is new to it. Random words of the
    vocabulary are mixed into some captions, so that an unknown word does little harm.
    """

    def __init__(
        self,
        trained: Sequence[Emoji],
        vocabulary: Vocabulary,
        rng: random.Random,
        edit_share: float = EDIT_SHARE,
    ):
        self.edit_share = edit_share
        self.rng = rng
        self.trained = trained
        self.families = families(trained)
        self.paraphrases = training_wordings()
        self.vocabulary = vocabulary
        self.encoded: dict[str, list[int]] = {}
        self.siblings: dict[str, list[tuple[Emoji, list[str]]]] = {}
        values = {word for one in trained for text in one.facets.values() for word in text.split()}
        self.words = [word for word in self._frequent_words() if word not in values]

    def _frequent_words(self) -> list[str]:
        """The vocabulary's whole words, the most frequent first."""
        texts = (self.vocabulary.decode([token]) for token in range(FIRST_WORD, LAST_WORD))
        return [text[:-1] for text in texts if text.endswith(" ") and text[:-1].isalpha()]

    def tokens(self, emoji: Emoji) -> list[int]:
        """A new caption as token ids, without start and end tokens."""
        line = [token for word in self.caption(emoji).split() for token in self._encode(word)]
        if self.rng.random() < NOISE_SHARE:
            for _ in range(self.rng.randint(1, 3)):
                token = self.rng.randrange(FIRST_WORD, LAST_WORD)
                line.insert(self.rng.randint(0, len(line)), token)
        return line

    def _encode(self, word: str) -> list[int]:
        """Tokens never reach over a space, so a caption's are those of its words."""
        if word not in self.encoded:
            self.encoded[word] = self.vocabulary.encode(word)
        return self.encoded[word]

    def caption(self, emoji: Emoji) -> str:
        """A new caption in words."""
        if self.rng.random() < self.edit_share:
            return self._edit(emoji) or self._from_stranger(emoji) or self._name(emoji)
        if self.rng.random() < SENTENCE_SHARE and emoji.attributes:
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
        siblings = self._siblings(target)
        if not siblings:
            return None
        single = [pair for pair in siblings if len(pair[1]) == 1]
        reference, changed = self.rng.choice(
            single if single and self.rng.random() < 0.85 else siblings
        )
        words = " and ".join(self.wording(facet, reference, target) for facet in changed)
        described = self.rng.choice((reference.name, self._sentence(reference)))
        return f"{PHOTO_OF} {described} {BUT} {words}"

    def _siblings(self, target: Emoji) -> list[tuple[Emoji, list[str]]]:
        """Emoji that differ from it in one or two facets, which it states, with these facets."""
        if target.key not in self.siblings:
            self.siblings[target.key] = [
                (sibling, changed)
                for sibling in self.families[target.family]
                if 1 <= len(changed := changed_facets(sibling, target)) <= 2
                and all(facet in target.facets for facet in changed)
            ]
        return self.siblings[target.key]

    def wording(self, facet: str, reference: Emoji, target: Emoji) -> str:
        """A new modification text that turns the reference's facet into the target's."""
        draw = self.rng.random()
        if draw < NONSENSE_SHARE:
            return self._nonsense(target.facets[facet])
        if draw < NONSENSE_SHARE + PARAPHRASE_SHARE:
            choices = self.paraphrases[facet]
        else:
            choices = KNOWN_WORDINGS[facet] + EXTRA_WORDINGS[facet]
        slots = slots_of(facet, reference, target)
        text = None
        while text is None:
            text = fill(self.rng.choice(choices), slots)
        return self._with_filler(text) if self.rng.random() < FILLER_SHARE else text

    def _nonsense(self, value: str) -> str:
        """The value among random words."""
        before, after = (self.rng.randint(0, 4) for _ in range(2))
        words = [self._frequent_word() for _ in range(before + after)]
        return " ".join([*words[:before], value, *words[before:]])

    def _frequent_word(self) -> str:
        """The word of rank n with a chance of about 1 / n."""
        return self.words[int(len(self.words) ** self.rng.random()) - 1]

    def _with_filler(self, text: str) -> str:
        if self.rng.random() < 0.5:
            return f"{self.rng.choice(BEFORE)} {text}"
        return f"{text} {self.rng.choice(AFTER)}"

    def _from_stranger(self, target: Emoji) -> str | None:
        """``a photo of {another emoji} but {name}``: the words after "but" describe the picture."""
        if self.rng.random() >= STRANGER_SHARE / self.edit_share:
            return None
        return f"{PHOTO_OF} {self.rng.choice(self.trained).name} {BUT} {target.name}"
