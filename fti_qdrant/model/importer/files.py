"""Reads files of ``torch.save`` without ``torch.load``: the zip archive and the older stream.

The archive holds ``NAME/data.pkl`` and the values of storage K in ``NAME/data/K``, uncompressed.
The older stream is four pickles (a number, a version, facts about the machine, the object), one
with the storages' keys, then for each key a count of 8 bytes and the values.
"""

from __future__ import annotations

import hashlib
import io
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import torch
from huggingface_hub.constants import CONFIG_NAME
from safetensors import SafetensorError

from fti_qdrant.errors import CheckpointError, FtiError, first_line
from fti_qdrant.model.importer.stand_ins import STORAGES, StoredStorage
from fti_qdrant.model.importer.unpickle import read_pickle

MAGIC = 0x1950A86A20F9469CFC6C
"""First pickle of the older stream."""

VALUE_BYTES = {dtype: getattr(torch, dtype).itemsize for dtype in STORAGES.values()}

ZIP_START = b"PK\x03\x04"

LONGEST_START = 64

OTHER_STARTS = {
    b"version https://git-lfs": "a pointer of Git LFS",
    b"<!doctype html": "a web page",
    b"<html": "a web page",
}
"""What is often saved in place of a download, by its first bytes in lower case."""

SAFETENSORS_HEADER = 100_000_000
"""Most bytes of a header of safetensors, by its specification."""


def read_checkpoint(path: Path) -> Any:
    """The object in a file of ``torch.save``, made of plain containers and ``stand_ins``.

    Raises:
        CheckpointError: missing, not a checkpoint, damaged, or naming what is not allowed.
    """
    start = first_bytes(path)
    with errors_name(path), path.open("rb") as file:
        for other, kind in OTHER_STARTS.items():
            if start.lower().startswith(other):
                raise CheckpointError(
                    f"it is not a checkpoint but {kind}; download the file itself"
                )
        return _from_zip(file) if start.startswith(ZIP_START) else _from_stream(file)


def first_bytes(path: Path) -> bytes:
    """The start of a checkpoint file. Raises CheckpointError where it is no file, or empty."""
    if path.is_dir():
        hint = "pass the authors' .pth file"
        if (path / CONFIG_NAME).is_file():
            hint = "an inverter in safetensors needs no conversion: pass the folder as the inverter"
        raise CheckpointError(f"checkpoint {str(path)!r} is a folder; {hint}")
    if not path.is_file():
        raise CheckpointError(
            f"checkpoint {str(path)!r} does not exist, or is not a file; pass the authors' .pth"
        )
    with errors_name(path), path.open("rb") as file:
        start = file.read(LONGEST_START)
        if not start:
            raise CheckpointError("it is empty; download it again")
        return start


def is_safetensors(start: bytes) -> bool:
    """Whether a file begins as safetensors: eight bytes of its header's length, and JSON."""
    return start[8:9] == b"{" and int.from_bytes(start[:8], "little") <= SAFETENSORS_HEADER


@contextmanager
def errors_name(path: Path) -> Iterator[None]:
    """Turns whatever a damaged file can raise into a CheckpointError with the file's name."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"checkpoint {str(path)!r} is refused: {error}") from error
    except FtiError:
        raise
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} cannot be read: {first_line(error)}") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"the safetensors {str(path)!r} are damaged ({first_line(error)}); download them again"
        ) from error
    except Exception as error:  # zip, pickle and stand-ins each have their own
        raise CheckpointError(
            f"{str(path)!r} is not a checkpoint of torch.save, or is damaged "
            f"({first_line(error)}); download it again"
        ) from error


def sha256(path: Path) -> str:
    """Of the file's bytes, in hex. Raises CheckpointError where it cannot be read."""
    digest = hashlib.sha256()
    with errors_name(path), path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _from_zip(file: IO[bytes]) -> Any:
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise CheckpointError("the archive is compressed, which torch.save never does")
        if sum(entry.file_size for entry in entries) > _size(file):
            raise CheckpointError("the archive's parts are larger than the file")
        pickles = [name for name in archive.namelist() if name.endswith("/data.pkl")]
        if len(pickles) != 1:
            raise CheckpointError("the archive is not one of torch.save: it has no data.pkl")
        folder = pickles[0].removesuffix("data.pkl")
        _check_order(_read_or(archive, f"{folder}byteorder", b"little").decode())
        storages: dict[str, StoredStorage] = {}

        def open_storage(key: str, dtype: str, count: int) -> StoredStorage:
            if key not in storages:
                storages[key] = StoredStorage(dtype, count)
                storages[key].data = bytearray(archive.read(f"{folder}data/{key}"))
            return _checked(storages[key], key, dtype, count)

        return read_pickle(io.BytesIO(archive.read(pickles[0])), open_storage)


def _from_stream(file: IO[bytes]) -> Any:
    if read_pickle(file) != MAGIC:
        raise CheckpointError("it is a plain pickle, not one of torch.save")
    _version, machine = read_pickle(file), read_pickle(file)
    _check_order("little" if machine["little_endian"] else "big")
    storages: dict[str, StoredStorage] = {}
    start = file.tell()
    size = _size(file)
    file.seek(start)

    def open_storage(key: str, dtype: str, count: int) -> StoredStorage:
        storage = storages.setdefault(key, StoredStorage(dtype, count))
        if (storage.dtype, storage.count) != (dtype, count):
            raise CheckpointError(f"storage {key!r} is used in two ways")
        if _bytes(storage) > size:
            raise CheckpointError(f"storage {key!r} is larger than the file")
        return storage

    loaded = read_pickle(file, open_storage)
    for key in read_pickle(file):
        storage = storages.pop(key)
        if int.from_bytes(file.read(8), "little") != storage.count:
            raise CheckpointError(f"storage {key!r} has another size than the pickle says")
        storage.data = bytearray(file.read(_bytes(storage)))
        _checked(storage, key, storage.dtype, storage.count)
    if storages:
        raise CheckpointError(f"the values of {len(storages)} storages are missing")
    return loaded


def _checked(storage: StoredStorage, key: str, dtype: str, count: int) -> StoredStorage:
    if (storage.dtype, storage.count) != (dtype, count) or len(storage.data) != _bytes(storage):
        raise CheckpointError(
            f"storage {key!r} has {len(storage.data)} bytes, not {count} values of {dtype}"
        )
    return storage


def _bytes(storage: StoredStorage) -> int:
    return storage.count * VALUE_BYTES[storage.dtype]


def _check_order(order: str) -> None:
    if order != sys.byteorder:
        raise CheckpointError(f"it was written on a machine of {order!r} byte order; convert there")


def _read_or(archive: zipfile.ZipFile, name: str, default: bytes) -> bytes:
    return archive.read(name) if name in archive.namelist() else default


def _size(file: IO[bytes]) -> int:
    return file.seek(0, io.SEEK_END)
