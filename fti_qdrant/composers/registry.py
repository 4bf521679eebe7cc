"""The composers by name: built in, registered by a program, or from installed packages.

Importable without torch. To build one in, write its function and its ``ComposerDescription`` in the
module of its family; a new family is one more module, named in ``FAMILIES``. From outside, use
``register``, or a package's entry point of the group ``fti_qdrant.composers`` (docs/extending.md).
"""

from __future__ import annotations

from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points

from fti_qdrant.composers import directions, mixing, textual_inversion
from fti_qdrant.composers.description import ComposerDescription
from fti_qdrant.errors import BadQuery
from fti_qdrant.package_entry import load_entry

FAMILIES = (directions, textual_inversion, mixing)

COMPOSERS: dict[str, ComposerDescription] = {
    composer.name: composer for family in FAMILIES for composer in family.COMPOSERS
}
"""Name -> description, in the order in which they are listed."""

ENTRY_POINTS = "fti_qdrant.composers"
"""Group of the entry points by which a package brings composers; each is a description."""

IMAGE_ONLY, TEXT_ONLY = "image", "text"
"""Composers that answer a query without a text, and one without an image."""


def register(composer: ComposerDescription) -> ComposerDescription:
    """Adds a composer, which then works everywhere that a built-in one does.

    Example:
        >>> both = ComposerDescription(
        ...     "both", "image plus text", lambda x, _: x.image + x.text, needs=("image", "text")
        ... )
        >>> register(both).name, find_composer("both").needs_inverter
        ('both', False)
        >>> del COMPOSERS["both"]

    Raises BadQuery where another composer has this name.
    """
    if COMPOSERS.get(composer.name, composer) is not composer:
        raise BadQuery(f"there is a composer {composer.name!r} already; choose another name")
    COMPOSERS[composer.name] = composer
    return composer


def composer_names(*, inverter: bool = True) -> tuple[str, ...]:
    """The names of all composers, or of those that work without an inverter.

    A package's composer is not loaded for its name; what it needs is known only after that.

    Example:
        >>> composer_names(inverter=False)
        ('image', 'text', 'sum', 'slerp', 'raw-sum')
    """
    if inverter:
        return (*COMPOSERS, *(name for name in _installed() if name not in COMPOSERS))
    return tuple(one.name for one in COMPOSERS.values() if not one.needs_inverter)


def all_composers() -> tuple[ComposerDescription, ...]:
    """Every composer, those of packages too. Raises BadQuery where one cannot be loaded."""
    for name in _installed():
        _load_installed(name)
    return tuple(COMPOSERS.values())


def find_composer(name: str) -> ComposerDescription:
    """A composer by name.

    Example:
        >>> find_composer("fti").needs_inverter
        True

    Raises BadQuery for an unknown name, or a package's composer that cannot be loaded.
    """
    if isinstance(name, str) and name not in COMPOSERS and name in _installed():
        _load_installed(name)
    try:
        return COMPOSERS[name]
    except (KeyError, TypeError):
        raise BadQuery(
            f"unknown composer {name!r}; use one of {', '.join(composer_names())}"
        ) from None


@lru_cache(maxsize=1)
def _installed() -> dict[str, EntryPoint]:
    return {point.name: point for point in entry_points(group=ENTRY_POINTS)}


def _load_installed(name: str) -> None:
    def fits(found: object) -> bool:
        return isinstance(found, ComposerDescription) and found.name == name

    if name not in COMPOSERS:
        point = _installed()[name]
        register(load_entry(point, "composer", "a ComposerDescription", fits, BadQuery))
