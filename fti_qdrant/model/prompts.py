"""The prompt templates, built from token ids: a ``*`` in a user's text stays a plain ``*``."""

from __future__ import annotations

from collections.abc import Sequence

from fti_qdrant.model.tokens import Fixed, Tokens, Vocabulary

PHOTO_OF, WITH, AND, BUT = "a photo of", "with", "and", "but"


class Prompts:
    """The prompts of the method over one vocabulary; a star marks each pseudo-word."""

    def __init__(self, vocabulary: Vocabulary):
        self.vocabulary = vocabulary
        encode = vocabulary.encode
        self.photo_of, self.with_ = encode(PHOTO_OF), encode(WITH)
        self.and_, self.but = encode(AND), encode(BUT)

    @property
    def prefix(self) -> tuple[int, ...]:
        """The token ids that every prompt with pseudo-words begins with."""
        return (*self.vocabulary.start, *self.photo_of)

    def composed(self, counts: Sequence[Sequence[int]], texts: Sequence[str]) -> Tokens:
        """``a photo of * with * ... * [and * with * ...] but {text}``, one for each query.

        Without a text, the training template ``a photo of * with * ... *``. A count of 0 means
        a subject token alone: ``a photo of * but {text}``.

        Args:
            counts: for each query, the number of attribute tokens of each reference image.
            texts: one modification text for each query; may be empty.

        Raises:
            PromptTooLong: the pseudo-words alone do not fit into the context.
        """
        return self.vocabulary.assemble([self.line(*one) for one in zip(counts, texts)])

    def line(self, counts: Sequence[int], text: str) -> tuple[Fixed, list[int]]:
        """One prompt of ``composed``, before it is cut to the context: its fixed and free part."""
        free = self.vocabulary.encode(text)
        fixed: Fixed = list(self.photo_of)
        for image, count in enumerate(counts):
            fixed += [*(self.and_ if image else []), None]
            fixed += [*self.with_, *[None] * count] if count else []
        return [*fixed, *(self.but if free else [])], free

    def subject_in_words(self, subjects: Sequence[str], counts: Sequence[int]) -> Tokens:
        """``a photo of {subject} with * ... *``: real subject, pseudo attributes.

        A subject that is too long loses its end.
        """
        prompts: list[tuple[Fixed, list[int]]] = []
        around = len(self.vocabulary.start) + len(self.photo_of) + len(self.with_) + 1
        for subject, count in zip(subjects, counts):
            room = max(0, self.vocabulary.context_length - around - count)
            words = self.vocabulary.encode(subject)[:room]
            prompts.append(([*self.photo_of, *words, *self.with_, *[None] * count], []))
        return self.vocabulary.assemble(prompts)

    def attributes_in_words(self, attributes: Sequence[str]) -> Tokens:
        """``a photo of * with {attributes}``: pseudo subject, real attributes."""
        fixed: Fixed = [*self.photo_of, None, *self.with_]
        return self.vocabulary.assemble(
            [(fixed, self.vocabulary.encode(text)) for text in attributes]
        )

    def in_words(self, subjects: Sequence[str], attributes: Sequence[str]) -> Tokens:
        """``a photo of {subject} with {attributes}``: the all-real sentence."""
        sentences = [f"{PHOTO_OF} {s} {WITH} {a}" for s, a in zip(subjects, attributes)]
        return self.vocabulary.tokenize(sentences)
