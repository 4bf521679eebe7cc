"""The files that a run leaves: beside an embedded gallery, or in the working directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the options of --help do not need a Qdrant client
    from fti_qdrant.gallery.location import GalleryLocation


@dataclass(frozen=True)
class RunFiles:
    """Where the files of a run are.

    Attributes:
        rejects: list of bad files.
        duplicates: list of duplicates.
        report: the run in figures.
    """

    rejects: Path
    duplicates: Path
    report: Path


@dataclass(frozen=True)
class OutputFiles:
    """Where the user wants the files; None stands for the default.

    Attributes:
        log: events and retries as JSON lines; None keeps none.
    """

    rejects: Path | None = None
    duplicates: Path | None = None
    report: Path | None = None
    log: Path | None = None

    def beside(self, location: GalleryLocation) -> RunFiles:
        """By default in an embedded gallery's folder, for a server in the working directory."""
        from fti_qdrant.gallery.location import EmbeddedLocation

        folder = location.path if isinstance(location, EmbeddedLocation) else Path()
        return RunFiles(
            self.rejects or folder / "rejects.jsonl",
            self.duplicates or folder / "duplicates.jsonl",
            self.report or folder / "report.json",
        )
