"""The stage that reads and decodes pictures for training: URI -> uint8 pixels, on CPUs.

Without the content hashes and payloads that ingest needs: each epoch decodes every picture again.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from fti_ingest.sources.result_or_reason import result_or_reason
from fti_ingest.stages.row_status import REJECTED, STORE
from fti_qdrant.images import Preprocess, decode_pixels
from fti_qdrant.images.fetch import read_batch, without_span


@dataclass(frozen=True)
class PictureDecoder:
    """Adds the columns status (``STORE`` or ``REJECTED``), error and pixels.

    Takes a column uri, and passes all columns on. A picture that cannot be read has no pixels;
    nothing raises for one bad image.
    """

    preprocess: Preprocess

    def __call__(self, batch: pa.Table) -> pa.Table:
        uris = batch["uri"].to_pylist()
        read = zip(read_batch(uris, allow_urls=False), uris)
        rows = [
            result_or_reason(data, without_span(uri), partial(self._pixels, uri))
            for data, uri in read
        ]
        statuses = [REJECTED if pixels is None else STORE for pixels, _ in rows]
        errors = [reason for _, reason in rows]
        pixels = [one or b"" for one, _ in rows]
        return (
            batch.append_column("status", pa.array(statuses, pa.string()))
            .append_column("error", pa.array(errors, pa.string()))
            .append_column("pixels", pa.array(pixels, pa.large_binary()))
        )

    def _pixels(self, uri: str, data: bytes) -> bytes:
        image, _ = decode_pixels(data, uri=without_span(uri))
        return self.preprocess.pixels(image).tobytes()
