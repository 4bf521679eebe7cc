"""A name that stands for a gallery, and is switched to another one at once.

On a server it is an alias of Qdrant, embedded a link to a folder. A gallery that was opened by the
name before it was switched stays the one that it was.
"""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from fti_qdrant.atomic_files import PART
from fti_qdrant.errors import GalleryExists, GalleryUnavailable
from fti_qdrant.gallery.location import EmbeddedLocation, GalleryLocation, ServerLocation


class GalleryAlias(Protocol):
    """All methods raise GalleryUnavailable where the server or the disk does."""

    @property
    def name(self) -> str:
        """For messages."""
        ...

    @property
    def stem(self) -> str:
        """What names of its galleries begin with."""
        ...

    def target(self) -> GalleryLocation | None:
        """The gallery that it stands for; None where there is no such alias yet.

        Raises GalleryExists where a gallery itself has the name.
        """
        ...

    def beside(self, name: str) -> GalleryLocation:
        """The gallery of this name in the same place."""
        ...

    def names(self) -> list[str]:
        """What is in the same place and begins with ``stem``."""
        ...

    def switch(self, location: GalleryLocation) -> None:
        """Lets it stand for another gallery, at once for all that open it from now on."""
        ...

    def options(self) -> list[str]:
        """The options of the command lines for it."""
        ...


@dataclass(frozen=True)
class ServerAlias:
    """An alias on a server; ``location`` has its name as the collection."""

    location: ServerLocation

    @property
    def name(self) -> str:
        return f"alias {self.stem!r} at {self.location.url}"

    @property
    def stem(self) -> str:
        return self.location.collection

    def target(self) -> ServerLocation | None:
        from fti_qdrant.gallery.server_errors import translated

        client = self.location.connect()
        try:
            with translated(self.name):
                aliases = client.get_aliases().aliases
                held = {one.alias_name: one.collection_name for one in aliases}
                if self.stem in held:
                    return self._of(held[self.stem])
                taken = client.collection_exists(self.stem)
        finally:
            client.close()
        if taken:
            raise GalleryExists(
                f"{self.stem!r} is a collection at {self.location.url}, and an alias cannot have "
                "its name; choose another --alias, and let searches use that"
            )
        return None

    def beside(self, name: str) -> ServerLocation:
        return self._of(name)

    def names(self) -> list[str]:
        from fti_qdrant.gallery.server_errors import translated

        client = self.location.connect()
        try:
            with translated(self.name):
                found = client.get_collections().collections
        finally:
            client.close()
        return [one.name for one in found if one.name.startswith(self.stem)]

    def switch(self, location: GalleryLocation) -> None:
        from qdrant_client import models

        from fti_qdrant.gallery.server_errors import translated

        assert isinstance(location, ServerLocation)
        there = self.target() is not None
        delete = models.DeleteAliasOperation(delete_alias=models.DeleteAlias(alias_name=self.stem))
        create = models.CreateAliasOperation(
            create_alias=models.CreateAlias(
                collection_name=location.collection, alias_name=self.stem
            )
        )
        client = self.location.connect()
        try:
            with translated(self.name, "write"):  # both in one request: there is no time between
                client.update_collection_aliases([*([delete] if there else []), create])
        finally:
            client.close()

    def options(self) -> list[str]:
        _, url, _, name, *rest = self.location.options()
        return ["--url", url, "--alias", name, *rest]

    def _of(self, collection: str) -> ServerLocation:
        return replace(self.location, collection=collection)


@dataclass(frozen=True)
class FolderAlias:
    """A link to the folder of an embedded gallery."""

    path: Path

    @property
    def name(self) -> str:
        return f"alias {str(self.path)!r}"

    @property
    def stem(self) -> str:
        return self.path.name

    def target(self) -> EmbeddedLocation | None:
        if self.path.is_symlink():
            return EmbeddedLocation(self.path.parent / self.path.readlink())
        if self.path.exists():
            kept = shlex.quote(str(self.path.with_name(self.stem + "-1")))
            link = shlex.quote(str(self.path))
            raise GalleryExists(
                f"{str(self.path)!r} is a folder, and a link cannot have its name; choose another "
                f"--alias, or make it one: mv {link} {kept} && "
                f"ln -s {shlex.quote(self.stem + '-1')} {link}"
            )
        return None

    def beside(self, name: str) -> EmbeddedLocation:
        return EmbeddedLocation(self.path.with_name(name))

    def names(self) -> list[str]:
        if not self.path.parent.is_dir():
            return []
        return [one.name for one in self.path.parent.glob(f"{self.stem}*") if one.is_dir()]

    def switch(self, location: GalleryLocation) -> None:
        """A new link takes the place of the old one: renaming is one step of the file system."""
        assert isinstance(location, EmbeddedLocation)
        self.target()
        part = self.path.with_name(self.stem + PART)
        try:
            part.unlink(missing_ok=True)
            target = os.path.relpath(location.path.resolve(), self.path.parent.resolve())
            part.symlink_to(target, target_is_directory=True)
            part.replace(self.path)
        except OSError as error:
            raise GalleryUnavailable(
                f"{self.name} cannot be made a link to {str(location.path)!r}: {error}"
            ) from error

    def options(self) -> list[str]:
        return ["--alias", str(self.path)]


def removal_command(location: GalleryLocation) -> str:
    """The command that deletes a gallery, for messages."""
    if isinstance(location, EmbeddedLocation):
        return f"rm -r {shlex.quote(str(location.path))}"
    key = ' -H "api-key: $QDRANT_API_KEY"' if location.has_key else ""
    parts = (location.url, location.client_options.prefix or "", "collections")
    url = "/".join([*(part.strip("/") for part in parts if part), location.collection])
    return f"curl -X DELETE{key} {shlex.quote(url)}"
