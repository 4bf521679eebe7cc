"""Options that only apply to a collection on a server."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from fti_qdrant.cli.renamed_option import RenamedOption
from fti_qdrant.gallery.collection_config import CollectionConfig, Quantization

if TYPE_CHECKING:  # --help does not need a Qdrant client
    from fti_qdrant.gallery.location import GalleryLocation

F = TypeVar("F", bound=Callable[..., Any])

PATIENCE = 300
"""Seconds."""

QUANTIZATIONS: tuple[str, ...] = get_args(Quantization)

OPTIONS = (
    click.option(
        "--bulk", is_flag=True, help="Build the index after loading, not while loading (server)."
    ),
    click.option(
        "--quantization",
        cls=RenamedOption,
        once=["--quantisation"],
        type=click.Choice(QUANTIZATIONS),
        default="none",
        show_default=True,
        help="Compress the vectors that searches compare, to a byte for each dimension (scalar), "
        "to 4, 2 or 1 bits (turbo, Qdrant 1.18), or to 2 bits (binary). Results are rescored with "
        "the full ones, and the run ends with the measured recall (new collection).",
    ),
    click.option(
        "--on-disk", is_flag=True, help="Keep full vectors and payloads on disk (new collection)."
    ),
    click.option("--shards", type=click.IntRange(1), help="Number of shards (new collection)."),
    click.option(
        "--replicas", type=click.IntRange(1), help="Copies of each shard (new collection)."
    ),
    click.option(
        "--patience",
        type=click.FloatRange(min=0),
        help="Seconds to wait for a server that does not answer, before the run fails, at its "
        f"start and later.  [default: {PATIENCE}, and at the start not at all]",
    ),
)


@dataclass(frozen=True)
class ServerChoice:
    """How a collection is created and loaded."""

    storage: CollectionConfig
    bulk: bool
    patience: float | None

    def apply_to(self, location: GalleryLocation) -> GalleryLocation:
        """The location with its patience. Raises UsageError for an embedded gallery."""
        from fti_qdrant.gallery.location import ServerLocation

        if isinstance(location, ServerLocation):
            # a mistyped address must not take minutes to be told, unless the user says so
            at_start = self.patience or 0
            later = PATIENCE if self.patience is None else self.patience
            return replace(location, patience=later, patience_at_start=at_start)
        if self.bulk or self.storage != CollectionConfig():
            raise click.UsageError(
                "--bulk, --quantization, --on-disk, --shards and --replicas need a server (--url)"
            )
        return location


def server_options(command: F) -> F:
    """Adds the options; the command gets one ``server``."""

    @functools.wraps(command)
    def wrapped(
        *args: Any,
        bulk: bool,
        quantization: Quantization,
        on_disk: bool,
        shards: int | None,
        replicas: int | None,
        patience: float | None,
        **options: Any,
    ) -> Any:
        storage = CollectionConfig(quantization, on_disk, shards, replicas)
        return command(*args, server=ServerChoice(storage, bulk, patience), **options)

    for option in reversed(OPTIONS):
        wrapped = option(wrapped)
    return wrapped  # type: ignore[return-value]
