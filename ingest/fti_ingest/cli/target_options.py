"""Where a run writes to: a gallery, or one behind an alias."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fti_qdrant.cli.gallery_options import GivenPlace, place_options

if TYPE_CHECKING:  # --help does not need a Qdrant client
    from fti_ingest.cli.server_options import ServerChoice
    from fti_qdrant.gallery.aliases import GalleryAlias
    from fti_qdrant.gallery.location import GalleryLocation

F = TypeVar("F", bound=Callable[..., Any])

NEVER_IN_NAMES = frozenset('<>:"/\\|?*\0\x1f')
"""What Qdrant refuses in names of collections; those of our galleries begin with the alias."""

LONGEST_NAME = 200
"""Characters: Qdrant takes 255 with the model and the day."""


@dataclass(frozen=True)
class Target:
    """At least one of the two is set.

    Attributes:
        chosen: the gallery that the user names.
        alias: the name that is to stand for it.
    """

    chosen: GalleryLocation | None
    alias: GalleryAlias | None = None

    @property
    def location(self) -> GalleryLocation:
        """The gallery; the place of an alias where the run chooses the gallery itself."""
        if self.chosen is not None:
            return self.chosen
        assert self.alias is not None
        return self.alias.beside(self.alias.stem)

    def on(self, server: ServerChoice) -> Target:
        """With what the server's options say. Raises UsageError for an embedded gallery."""
        from fti_qdrant.gallery.aliases import ServerAlias
        from fti_qdrant.gallery.location import ServerLocation

        chosen = server.apply_to(self.location)
        alias = self.alias
        if isinstance(alias, ServerAlias) and isinstance(chosen, ServerLocation):
            alias = ServerAlias(replace(chosen, collection=alias.stem))
        return Target(self.chosen and chosen, alias)


def target_options(help: str) -> Callable[[F], F]:
    """Adds --gallery, --url, --collection and the like, and --alias; it gets one ``target``.

    Args:
        help: of --alias.
    """

    def decorated(command: F) -> F:
        @functools.wraps(command)
        def wrapped(*args: Any, place: GivenPlace, alias: str | None, **options: Any) -> Any:
            target = Target(place.location()) if alias is None else _behind(alias, place)
            return command(*args, target=target, **options)

        wrapped = click.option("--alias", metavar="NAME", help=help)(wrapped)
        return place_options(wrapped)  # type: ignore[return-value]

    return decorated


def _behind(alias: str, place: GivenPlace) -> Target:
    """Raises UsageError where the alias and the gallery are not in one place."""
    from fti_qdrant.gallery.aliases import FolderAlias, ServerAlias

    path = Path(alias)
    if not alias.strip() or (place.url is None and path.name in ("", "..")):
        raise click.UsageError(f"--alias {alias!r}: it needs a name, embedded the path of a link")
    if place.url is not None and (set(alias) & NEVER_IN_NAMES or len(alias) > LONGEST_NAME):
        raise click.UsageError(
            f"--alias {alias!r}: on a server a name has at most {LONGEST_NAME} characters, and "
            'none of < > : " / \\ | ? *'
        )
    own_name = place.gallery is not None and place.gallery.absolute() == path.absolute()
    if place.collection == alias or own_name:
        raise click.UsageError(
            f"--alias {alias} and its gallery need two names; leave out the gallery's to have it "
            "called after the alias, the model and the day"
        )
    if place.url is None:
        if place.collection is not None:
            raise click.UsageError("pass --collection with --url URL")
        chosen = None if place.gallery is None else place.location()
        return Target(chosen, FolderAlias(path))
    if place.gallery is not None:
        raise click.UsageError("pass either --gallery DIR, or --url URL")
    server = place.on_server(alias)
    chosen = None if place.collection is None else place.location()
    return Target(chosen, ServerAlias(server))
