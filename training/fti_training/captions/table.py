"""``captions.parquet``: a row for each captioned image; the file is always replaced as a whole."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from filelock import FileLock, Timeout
from pyarrow import parquet

from fti_qdrant.atomic_files import replacing
from fti_qdrant.errors import CheckpointError, OutputUnavailable, first_line
from fti_training.captions.split import Splitter

SCHEMA = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("caption", pa.string(), nullable=False),
        pa.field("subject", pa.string()),
        pa.field("attribute", pa.string()),
        pa.field("sha256", pa.string(), nullable=False),
    ]
)
SPLITTER_KEY, CAPTIONERS_KEY = "fti_splitter", "fti_captioners"


@dataclass(frozen=True)
class Caption:
    """A captioned image.

    Attributes:
        uri: absolute path, or URL.
        subject, attribute: None where the caption has under 4 words, or cannot be split.
        sha256: of the encoded image.
    """

    uri: str
    caption: str
    subject: str | None
    attribute: str | None
    sha256: str


class CaptionsTable:
    """The captions of one file; ``add`` collects rows, ``save`` replaces the file.

    Attributes:
        rows: the rows of the file, of ``SCHEMA``.
        splitter: name of the tagger that split all captions.
        captioners: the models, and the users' files, that the captions came from.
    """

    def __init__(self, path: Path, rows: pa.Table, splitter: str, captioners: Sequence[str]):
        self.path = path
        self.rows = rows
        self.splitter = splitter
        self.captioners = list(captioners)
        self._added: dict[str, Caption] = {}
        self._stale = False

    @classmethod
    def read(cls, path: Path) -> CaptionsTable:
        """Reads a file. Raises CheckpointError: missing, truncated, or not a captions file."""
        try:
            found = parquet.read_table(path)
            facts = {k.decode(): v.decode() for k, v in (found.schema.metadata or {}).items()}
            rows = found.select(SCHEMA.names).cast(SCHEMA)
            captioners = json.loads(facts[CAPTIONERS_KEY])
            return cls(path, rows, facts[SPLITTER_KEY], captioners)
        except (OSError, KeyError, ValueError, pa.ArrowException) as error:
            raise CheckpointError(
                f"{str(path)!r} is not a captions file of fti-train ({first_line(error)}); "
                "choose another --out"
            ) from error

    @classmethod
    def open(cls, path: Path, splitter: Splitter) -> CaptionsTable:
        """Reads a file, or starts one; captions that another tagger split are split again."""
        if not path.exists():
            return cls(path, SCHEMA.empty_table(), splitter.name, [])
        table = cls.read(path)
        if table.splitter != splitter.name:
            table.split_again(splitter)
        return table

    def __len__(self) -> int:
        return int(self.rows.num_rows)

    def split_again(self, splitter: Splitter) -> None:
        """Splits every caption again; a file has one splitter."""
        splits = [splitter(caption) for caption in self.rows["caption"].to_pylist()]
        self.rows = pa.table(
            {
                "uri": self.rows["uri"],
                "caption": self.rows["caption"],
                "subject": [split and split.subject for split in splits],
                "attribute": [split and split.attributes for split in splits],
                "sha256": self.rows["sha256"],
            },
            schema=SCHEMA,
        )
        self.splitter = splitter.name
        self._stale = True

    def stored(self, uris: pa.ChunkedArray, column: str) -> pa.ChunkedArray:
        """The saved values of a column for these URIs; null where the table has no such row."""
        positions = pc.index_in(uris, value_set=self.rows["uri"].combine_chunks())
        return self.rows[column].take(positions)

    def add(self, caption: Caption) -> None:
        """Adds a row, or replaces the one with its URI; ``save`` writes it to disk."""
        self._added[caption.uri] = caption

    def save(self, captioner: str | None = None) -> None:
        """Replaces the file atomically, if anything is new.

        Args:
            captioner: where the captions that were added came from.

        Raises OutputUnavailable where it cannot be written: the file stays as it was, and the new
        rows can still be saved later.
        """
        if not self._added and not self._stale:
            return
        new = list(self._added.values())
        columns = zip(*map(astuple, new)) if new else [[]] * len(SCHEMA)
        added = pa.table(list(map(list, columns)), schema=SCHEMA)
        replaced = pc.is_in(self.rows["uri"], value_set=added["uri"].combine_chunks())
        rows = pa.concat_tables([self.rows.filter(pc.invert(replaced)), added])
        captioners = self.captioners
        if new and captioner is not None and captioner not in captioners:
            captioners = [*captioners, captioner]
        facts = {SPLITTER_KEY: self.splitter, CAPTIONERS_KEY: json.dumps(captioners)}
        _replace(self.path, rows.replace_schema_metadata(facts))
        self.rows, self.captioners = rows.combine_chunks(), captioners
        self._added.clear()
        self._stale = False


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Makes the file's folder and locks the file against other runs.

    Raises OutputUnavailable: another run holds the lock, or nothing can be written there.
    """
    lock = FileLock(f"{path}.lock", timeout=0)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise OutputUnavailable(
            f"{str(path)!r} is in use by another run; wait for it to end, or choose another --out"
        ) from error
    except OSError as error:
        raise _unwritable(path, error) from error
    try:
        yield
    finally:
        lock.release()


def _replace(path: Path, rows: pa.Table) -> None:
    try:
        with replacing(path) as part:
            parquet.write_table(rows, part, compression="zstd")
    except OSError as error:
        raise _unwritable(path, error) from error


def _unwritable(path: Path, error: OSError) -> OutputUnavailable:
    kept = (
        "what was saved is kept; make room and run again" if path.exists() else "nothing was saved"
    )
    return OutputUnavailable(f"{str(path)!r} cannot be written: {error}; {kept}")
