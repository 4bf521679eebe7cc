"""The stage that reads and decodes pictures for training: URI -> uint8 pixels, on CPUs.

Without the content hashes and payloads that ingest needs: each epoch decodes every picture again.
"""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from fti_ingest.sources.fetch import Read, read_batch, without_span
from fti_ingest.stages.row_status import REJECTED, STORE
from fti_qdrant.errors import BadImage
from fti_qdrant.images import Preprocess, decode_pixels


@dataclass(frozen=True)
class PictureDecoder:
    """Adds the columns status (``STORE`` or ``REJECTED``), error and pixels.

    Takes a column uri, and passes all columns on. A picture that cannot be read has no pixels;
    nothing raises for one bad image.
    """

    preprocess: Preprocess

    def __call__(self, batch: pa.Table) -> pa.Table:
        uris = batch["uri"].to_pylist()
        rows = [self._decode(*row) for row in zip(uris, read_batch(uris, allow_urls=False))]
        errors, pixels = zip(*rows) if rows else ((), ())
        statuses = [REJECTED if error else STORE for error in errors]
        return (
            batch.append_column("status", pa.array(statuses, pa.string()))
            .append_column("error", pa.array(errors, pa.string()))
            .append_column("pixels", pa.array(pixels, pa.large_binary()))
        )

    def _decode(self, uri: str, data: Read) -> tuple[str, bytes]:
        """An error, or pixels."""
        try:
            if isinstance(data, BadImage):
                raise data
            image, _ = decode_pixels(data, uri=without_span(uri))
            return "", self.preprocess.pixels(image).tobytes()
        except BadImage as error:
            return str(error), b""
        except Exception as error:  # one image must never stop the others
            return f"{uri!r}: {type(error).__name__}: {error}", b""
