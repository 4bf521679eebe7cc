"""Where a run writes to: a gallery, or one behind an alias."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from fti_qdrant.cli.gallery_options import OPTIONS as GALLERY_OPTIONS
from fti_qdrant.cli.gallery_options import location_of

if TYPE_CHECKING:  # --help does not need a Qdrant client
    from fti_ingest.cli.server_options import ServerChoice
    from fti_qdrant.gallery.aliases import GalleryAlias
    from fti_qdrant.gallery.location import GalleryLocation

F = TypeVar("F", bound=Callable[..., Any])


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
    options = (*GALLERY_OPTIONS, click.option("--alias", metavar="NAME", help=help))

    def decorated(command: F) -> F:
        @functools.wraps(command)
        def wrapped(
            *args: Any,
            gallery: Path | None,
            url: str | None,
            collection: str | None,
            api_key: str | None,
            grpc: bool,
            grpc_port: int,
            alias: str | None,
            **options: Any,
        ) -> Any:
            port = grpc_port if grpc else None
            if alias is None:
                target = Target(location_of(gallery, url, collection, api_key, port))
            else:
                target = _behind(alias, gallery, url, collection, api_key, port)
            return command(*args, target=target, **options)

        for option in reversed(options):
            wrapped = option(wrapped)
        return wrapped  # type: ignore[return-value]

    return decorated


def _behind(
    alias: str,
    gallery: Path | None,
    url: str | None,
    collection: str | None,
    api_key: str | None,
    grpc_port: int | None,
) -> Target:
    """Raises UsageError where the alias and the gallery are not in one place."""
    from fti_qdrant.gallery.aliases import FolderAlias, ServerAlias
    from fti_qdrant.gallery.location import ServerLocation

    if not alias.strip():
        raise click.UsageError("--alias needs a name")
    if collection == alias or (gallery is not None and gallery == Path(alias)):
        raise click.UsageError(
            f"--alias {alias} and its gallery need two names; leave out the gallery's to have it "
            "called after the alias, the model and the day"
        )
    if url is None:
        if collection is not None:
            raise click.UsageError("pass --collection with --url URL")
        chosen = None if gallery is None else location_of(gallery, None, None, None)
        return Target(chosen, FolderAlias(Path(alias)))
    if gallery is not None:
        raise click.UsageError("pass either --gallery DIR, or --url URL")
    server = ServerLocation(url, alias, api_key, grpc_port)
    chosen = None if collection is None else replace(server, collection=collection)
    return Target(chosen, ServerAlias(server))
