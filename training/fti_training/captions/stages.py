"""The stages that Ray's workers run: read, hash and decode on CPUs, caption on the model's device.

A row that fails keeps going with a ``reason``; nothing raises for one bad image.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fti_ingest.sources.fetch import Read, read_batch, without_span
from fti_ingest.stages.row_status import UNCHANGED
from fti_qdrant.errors import BadImage
from fti_qdrant.images import decode_image
from fti_training.captions.captioner import Captioner, Pixels


@dataclass(frozen=True)
class Reader:
    """Stage 1: uri -> the content hash, and the model's pixels.

    Takes columns uri, caption (the user's, else null) and known: the hash that the table has.

    Attributes:
        pixels: None where captions are the user's: pictures are only tried.
    """

    pixels: Pixels | None
    allow_urls: bool = False

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.select(["uri", "known"]).to_pydict()
        data = read_batch(rows["uri"], self.allow_urls)
        done = [self._decode(*row) for row in zip(data, *rows.values())]
        hashes, arrays, reasons = zip(*done) if done else ((), (), ())
        return pa.table(
            {
                "uri": batch["uri"],
                "caption": batch["caption"],
                "sha256": pa.array(hashes, pa.string()),
                "reason": pa.array(reasons, pa.string()),
                "pixels": pa.array([array.tobytes() for array in arrays], pa.large_binary()),
                "shape": pa.array([array.shape for array in arrays], pa.list_(pa.int64())),
            }
        )

    def _decode(self, data: Read, uri: str, known: str | None) -> tuple[str, np.ndarray, str]:
        """Hash, pixels (none for a row that is done with), reason."""
        sha256, nothing = "", np.zeros(0, np.float32)
        try:
            if isinstance(data, BadImage):
                raise data
            sha256 = hashlib.sha256(data).hexdigest()
            if sha256 == known:
                return sha256, nothing, UNCHANGED
            image = decode_image(data, uri=without_span(uri)).image
            return sha256, self.pixels(image) if self.pixels else nothing, ""
        except BadImage as error:
            return sha256, nothing, str(error)
        except Exception as error:  # one image must never stop the others
            return sha256, nothing, f"{uri!r}: {type(error).__name__}: {error}"


class Writer:
    """Stage 2, an actor that holds the model: pixels -> captions."""

    def __init__(self, model: str, precision: str | None, threads: int):
        import torch

        torch.set_num_threads(threads)
        self.captioner = Captioner(model, precision)

    def __call__(self, batch: pa.Table) -> pa.Table:
        captions = batch["caption"].to_pylist()
        rows = batch.select(["reason", "pixels", "shape"]).to_pylist()
        good = [place for place, row in enumerate(rows) if not row["reason"]]
        if good:
            arrays = [
                np.frombuffer(rows[place]["pixels"], np.float32).reshape(rows[place]["shape"])
                for place in good
            ]
            for place, caption in zip(good, self.captioner(arrays)):
                captions[place] = caption
        return pa.table(
            {
                "uri": batch["uri"],
                "caption": pa.array(captions, pa.string()),
                "sha256": batch["sha256"],
                "reason": batch["reason"],
            }
        )
