"""What a run was trained on, as its model card states it."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from fti_qdrant.atomic_files import write_text
from fti_qdrant.errors import CheckpointError, first_line
from fti_training.samples import Samples
from fti_training.triplet_table import TripletTable

FILE = "data.json"


class DataFacts(BaseModel):
    """Facts about the samples.

    Attributes:
        samples: how many were trained on.
        held_out: how many were kept out of training, for validation.
        digest: of uris, subjects and attributes of both, in order.
        without_split, unreadable: numbers of pictures that were left out.
        captioner, splitter: what made the captions, if their table says so.
        triplets: number of composed queries whose answers are known.
        triplets_held_out, triplets_unreadable: further ones that were left out, as they name a
            picture that is held out, or cannot be read.
        triplets_digest: of their pictures and texts, in order; empty where there are none.
        backbone: hash of the frozen model's weights.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    samples: int
    held_out: int = 0
    digest: str
    without_split: int = 0
    unreadable: int = 0
    captioner: str | None = None
    splitter: str | None = None
    triplets: int = 0
    triplets_held_out: int = 0
    triplets_unreadable: int = 0
    triplets_digest: str = ""
    backbone: str
    cached: bool = False

    @classmethod
    def of(
        cls,
        samples: Samples,
        triplets: TripletTable | None,
        backbone: str,
        *,
        cached: bool,
        unreadable: int,
        held_out: int = 0,
    ) -> DataFacts:
        return cls(
            samples=len(samples) - held_out,
            held_out=held_out,
            digest=samples.digest,
            without_split=samples.without_split,
            unreadable=unreadable,
            captioner=samples.captioners,
            splitter=samples.splitter,
            triplets=0 if triplets is None else len(triplets),
            triplets_held_out=0 if triplets is None else triplets.held_out,
            triplets_digest="" if triplets is None else triplets.digest,
            backbone=backbone,
            cached=cached,
        )

    def after(self, captioned: int, triplets: int) -> DataFacts:
        """The facts of a run in which so many pictures, and triplets, could not be read."""
        return self.model_copy(
            update={
                "unreadable": self.unreadable + captioned,
                "triplets": self.triplets - triplets,
                "triplets_unreadable": triplets,
            }
        )

    @classmethod
    def read(cls, folder: Path) -> DataFacts:
        """Raises CheckpointError where the file is missing or damaged."""
        try:
            return cls.model_validate_json((folder / FILE).read_bytes())
        except (OSError, ValidationError) as error:
            reason = first_line(error)
            raise CheckpointError(f"{str(folder / FILE)!r} cannot be read: {reason}") from error

    def check_same(self, then: DataFacts) -> None:
        """Raises CheckpointError where a run would resume with other data, or another model."""
        kinds = {
            "captions": (then.digest, self.digest),
            "triplets": (then.triplets_digest, self.triplets_digest),
            "backbone weights": (then.backbone, self.backbone),
        }
        what = next((kind for kind, (before, now) in kinds.items() if before != now), None)
        if what is not None:
            raise CheckpointError(
                f"the run was started with other {what}; resume it with the same, or train into "
                "another --out"
            )

    def write(self, folder: Path) -> None:
        write_text(folder / FILE, self.model_dump_json(indent=2) + "\n")
