"""A caption in two parts, as the tri-wise loss takes it. Importable without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class SplitCaption:
    """A caption split after its first noun: "woman firefighter" + "dark skin tone"."""

    subject: str
    attributes: str
