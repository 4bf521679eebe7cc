"""Why a query found what it found: its prompt in words, and what its vector is similar to."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from fti_qdrant.composers.inputs import References
from fti_qdrant.composition import ComposedQuery
from fti_qdrant.errors import BadQuery
from fti_qdrant.model.backbone import Backbone
from fti_qdrant.model.explain import Explainer, ImageWords, NearestWords
from fti_qdrant.model.tokens import SentPrompt
from fti_qdrant.query import ReferencePictures


@dataclass(frozen=True)
class Explanation:
    """How the model understood one query.

    A notebook shows it with thumbnails of the reference images; ``str`` is the same as text.

    Attributes:
        composer: the one that answered.
        prompt: the text or prompt as the text encoder saw it, a star in place of each pseudo-word.
        prompt_in_words: the same with the nearest word in brackets in place of each star.
        cosines: of the query vector with each feature that the composer read, such as ``image``
            and ``text`` for ``sum``.
        references: the words nearest to each reference image's pseudo-words; empty where there
            are none.
        pictures: the reference images.
    """

    composer: str
    prompt: str | None
    prompt_in_words: str | None
    cosines: dict[str, float]
    references: tuple[ImageWords, ...]
    pictures: ReferencePictures = field(default=ReferencePictures(), compare=False)

    @property
    def subject(self) -> NearestWords:
        """Of the first reference image. Raises BadQuery without pseudo-words."""
        return self._first.subject

    @property
    def attributes(self) -> tuple[NearestWords, ...]:
        """Of the first reference image. Raises BadQuery without pseudo-words."""
        return self._first.attributes

    def __iter__(self) -> Iterator[NearestWords]:
        """The words of the first reference image: its subject, then its attributes."""
        return iter(self.references[0] if self.references else ())

    def facts(self) -> list[tuple[str, str]]:
        """The prompt and the cosines, each with its name."""
        facts = [] if self.prompt is None else [("prompt", self.prompt)]
        if self.prompt_in_words is not None and self.prompt_in_words != self.prompt:
            facts.append(("in words", self.prompt_in_words))
        cosines = ", ".join(f"{part} {cosine:.2f}" for part, cosine in self.cosines.items())
        return [*facts, ("cosine of the query with", cosines)]

    def lines(self) -> list[str]:
        """All of it as text: the facts, then the words of each reference image."""
        words = [
            f"{token.token}: " + ", ".join(f"{word} {cosine:.2f}" for word, cosine in token.words)
            for image in self.references
            for token in image
        ]
        return [*(f"{name}: {text}" for name, text in self.facts()), *words]

    def __str__(self) -> str:
        return "\n".join(self.lines())

    def __repr__(self) -> str:
        return (
            f"Explanation(composer={self.composer!r}, prompt_in_words={self.prompt_in_words!r}, "
            f"cosines={self.cosines})"
        )

    def _repr_html_(self) -> str:
        from fti_qdrant.report.notebook import explanation_html  # Jinja is loaded when it is shown

        return explanation_html(self)

    @property
    def _first(self) -> ImageWords:
        if not self.references:
            raise BadQuery("there are no pseudo-words to explain: no inverter is loaded")
        return self.references[0]


class QueryExplainer:
    """Explains composed queries; the vocabulary is encoded on first use."""

    def __init__(self, backbone: Backbone):
        self._explainer = Explainer(backbone)

    def explain(
        self,
        composed: ComposedQuery,
        references: References | None,
        pictures: ReferencePictures,
        words: int = 5,
    ) -> Explanation:
        """Args:
        references: of the query, with pseudo-words where an inverter is loaded.
        pictures: the same images, to be shown.
        words: how many words for each pseudo-word.
        """
        tokens = references.words if references else None
        images: tuple[ImageWords, ...] = ()
        if tokens is not None:
            rows = range(len(tokens))
            images = tuple(self._explainer.explain(tokens.take([row]), words) for row in rows)
        return Explanation(
            composer=composed.composer,
            prompt=composed.prompt,
            prompt_in_words=_in_words(composed.sent, images),
            cosines={need: round(cosine, 4) for need, cosine in composed.cosines.items()},
            references=images,
            pictures=pictures,
        )


def _in_words(sent: tuple[SentPrompt, ...], images: tuple[ImageWords, ...]) -> str | None:
    """The prompts with words for stars: all of an image's words, or its subject alone."""
    if not sent:
        return None
    best = [[token.words[0][0] for token in image] for image in images]
    if sum(prompt.stars for prompt in sent) == len(images):
        best = [words[:1] for words in best]
    remaining = iter(word for words in best for word in words)
    return "; ".join(prompt.in_words(remaining) for prompt in sent)
