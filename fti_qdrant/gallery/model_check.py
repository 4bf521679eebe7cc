"""What is known of a model that a user declared for vectors that another program made."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict

FITS, DIFFERS = 0.98, 0.90
"""Median cosines of stored and recomputed vectors. From the first on the model fits. From the
second on it is used with a warning: tools resize in different ways, and such a collection can be
searched all the same. Below it, another model or another preprocessing made the vectors."""

Verdict = Literal["unchecked", "fits", "differs", "wrong"]


class ModelCheck(BaseModel):
    """Stored vectors compared with those that the declared model makes of the same images.

    Attributes:
        median: cosine of the two; None where no image could be read.
        compared: images.
        unreadable: further images that were tried and cannot be read.
        reason: why the first of them cannot, or why none was tried.
        likely: what makes the vectors fit better, in words; empty where nothing known does.

    Example:
        >>> ModelCheck(median=0.94, compared=32).verdict
        'differs'
    """

    model_config = ConfigDict(frozen=True)

    median: float | None = None
    compared: int = 0
    unreadable: int = 0
    reason: str = ""
    likely: str = ""

    @property
    def verdict(self) -> Verdict:
        if self.median is None:
            return "unchecked"
        if self.median >= FITS:
            return "fits"
        return "differs" if self.median >= DIFFERS else "wrong"

    def warnings(self) -> tuple[str, ...]:
        """What every answer from such a collection should say; nothing where the model fits."""
        if self.verdict == "fits":
            return ()
        if self.verdict == "unchecked":
            return (f"the collection's model was declared and not checked: {self.reason}",)
        likely = f"; they fit better {self.likely}" if self.likely else ""
        return (
            f"the collection's vectors differ from those of its declared model: the median cosine "
            f"of {self.compared} images is {self.median:.2f}, and {FITS} is usual{likely}",
        )

    def summary(self) -> str:
        """The result in a sentence."""
        if self.verdict == "unchecked":
            return f"the model was not checked: {self.reason}"
        unread = f"; {self.unreadable} more could not be read ({self.reason})"
        return (
            f"the model was checked by {self.compared} stored images: median cosine "
            f"{self.median:.3f}{unread if self.unreadable else ''}"
        )
