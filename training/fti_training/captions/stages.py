"""The stages of captioning: read, hash and decode on CPUs, caption on the model's device.

A row that fails keeps its status and error; nothing raises for one bad image.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from functools import partial

import numpy as np
import pyarrow as pa

from fti_ingest.sources.result_or_reason import result_or_reason
from fti_ingest.stages.row_status import REJECTED, STORE, UNCHANGED
from fti_qdrant.errors import BadImage
from fti_qdrant.images import decode_pixels
from fti_qdrant.images.fetch import Read, read_batch, without_span
from fti_qdrant.model.cpu import use_threads
from fti_training.captions.captioner import Captioner, Pixels


@dataclass(frozen=True)
class ReadImage:
    """What became of one image: its status, hash, error, and the model's pixels."""

    status: str
    sha256: str
    error: str = ""
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(0, np.float32))


@dataclass(frozen=True)
class ImageReader:
    """Stage 1: adds the columns of ``ReadImage``.

    Takes the columns uri, caption (the user's, else null), and stored_sha256: the hash in the
    table of captions, if the image may be skipped.

    Attributes:
        pixels: None where the captions are the user's; then images are only checked.
    """

    pixels: Pixels | None
    allow_urls: bool = False

    def __call__(self, batch: pa.Table) -> pa.Table:
        rows = batch.select(["uri", "stored_sha256"]).to_pydict()
        data = read_batch(rows["uri"], self.allow_urls)
        read = [self._read(*row) for row in zip(data, *rows.values())]
        arrays = [one.pixels for one in read]
        return pa.table(
            {
                "uri": batch["uri"],
                "caption": batch["caption"],
                "status": pa.array([one.status for one in read], pa.string()),
                "error": pa.array([one.error for one in read], pa.string()),
                "sha256": pa.array([one.sha256 for one in read], pa.string()),
                "pixels": pa.array([array.tobytes() for array in arrays], pa.large_binary()),
                "shape": pa.array([array.shape for array in arrays], pa.list_(pa.int64())),
            }
        )

    def _read(self, data: Read, uri: str, stored_sha256: str | None) -> ReadImage:
        sha256 = "" if isinstance(data, BadImage) else hashlib.sha256(data).hexdigest()
        if sha256 and sha256 == stored_sha256:
            return ReadImage(UNCHANGED, sha256)
        pixels, reason = result_or_reason(data, without_span(uri), partial(self._decode, uri))
        if pixels is None:
            return ReadImage(REJECTED, sha256, reason)
        return ReadImage(STORE, sha256, pixels=pixels)

    def _decode(self, uri: str, data: bytes) -> np.ndarray:
        """The model's pixels; none where the captions are the user's."""
        image, _ = decode_pixels(data, uri=without_span(uri))
        return np.zeros(0, np.float32) if self.pixels is None else self.pixels(image)


class CaptionWriter:
    """Stage 2, holds the model: pixels -> captions. Drops the pixels."""

    def __init__(self, model: str, precision: str | None, threads: int | None):
        """Loads nothing yet: where no image is new, none of this is needed.

        Args:
            threads: CPU threads of this process; None leaves them as they are.
        """
        self.model, self.precision, self.threads = model, precision, threads
        self.captioner: Captioner | None = None

    def __call__(self, batch: pa.Table) -> pa.Table:
        captions = batch["caption"].to_pylist()
        rows = batch.select(["status", "pixels", "shape"]).to_pylist()
        new = [number for number, row in enumerate(rows) if row["status"] == STORE]
        if new:
            arrays = [
                np.frombuffer(rows[number]["pixels"], np.float32).reshape(rows[number]["shape"])
                for number in new
            ]
            for number, caption in zip(new, self._captioner()(arrays)):
                captions[number] = caption
        written = batch.drop_columns(["pixels", "shape", "caption"])
        return written.append_column("caption", pa.array(captions, pa.string()))

    def _captioner(self) -> Captioner:
        if self.captioner is None:
            if self.threads is not None:
                use_threads(self.threads)
            self.captioner = Captioner(self.model, self.precision)
        return self.captioner
