"""The composers by name, and which one answers a query. Importable without torch.

To add a composer, write its function and its ``ComposerDescription`` in the module of its family;
a new family is one more module, named in ``FAMILIES``.
"""

from __future__ import annotations

from fti_qdrant.composers import mixing, textual_inversion
from fti_qdrant.composers.description import ComposerDescription
from fti_qdrant.errors import BadQuery

FAMILIES = (textual_inversion, mixing)

COMPOSERS: dict[str, ComposerDescription] = {
    composer.name: composer for family in FAMILIES for composer in family.COMPOSERS
}
"""Name -> description, in the order in which they are listed."""

IMAGE_ONLY, TEXT_ONLY = "image", "text"
"""Composers that answer a query without a text, and one without an image."""


def composer_names(*, inverter: bool = True) -> tuple[str, ...]:
    """The names of all composers, or of those that work without an inverter.

    Example:
        >>> composer_names(inverter=False)
        ('image', 'text', 'sum', 'slerp')
    """
    return tuple(name for name, one in COMPOSERS.items() if inverter or not one.needs_inverter)


def find_composer(name: str) -> ComposerDescription:
    """A composer by name.

    Example:
        >>> find_composer("fti").needs_inverter
        True

    Raises BadQuery for an unknown name.
    """
    try:
        return COMPOSERS[name]
    except (KeyError, TypeError):
        names = ", ".join(COMPOSERS)
        raise BadQuery(f"unknown composer {name!r}; use one of {names}") from None


def default_composer(*, inverter: bool) -> str:
    """The best composer with or without an inverter: what ``composer=None`` stands for.

    Example:
        >>> default_composer(inverter=True), default_composer(inverter=False)
        ('fti', 'sum')
    """
    return "fti" if inverter else "sum"
