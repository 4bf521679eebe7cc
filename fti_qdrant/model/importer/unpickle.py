"""An unpickler that accepts the names in ``stand_ins``, layers of torch.nn, and no others.

``torch.load`` is not used in either of its ways. With ``weights_only=False`` it also unpacks tar
files and runs TorchScript archives before it reaches the pickle; with ``weights_only=True`` it
accepts far more names than a checkpoint of FTI4CIR needs, builds real objects from them, and has
been bypassed before (CVE-2025-32434). Here the standard unpickler runs with a ``find_class`` that
looks up module and name in a table: a dotted name is not followed, and no module is imported. A
class of ``torch.nn.modules`` gets a stand-in that holds its state and has none of its code.
"""

from __future__ import annotations

import pickle
import pickletools
from collections.abc import Callable
from typing import IO, Any

from fti_qdrant.errors import CheckpointError
from fti_qdrant.model.importer.stand_ins import (
    StorageType,
    StoredModule,
    StoredStorage,
    is_layer,
    new_names,
    stored_module,
)

OpenStorage = Callable[[str, str, int], StoredStorage]
"""(key, dtype, number of values) -> the storage that a pickle refers to."""

MEMO_OPCODES = ("PUT", "BINPUT", "LONG_BINPUT")

PYTHON_2_NAMES = {"__builtin__": "builtins"}


class RestrictedUnpickler(pickle.Unpickler):
    """Raises CheckpointError with the name of anything that is not in the table."""

    def __init__(self, file: IO[bytes], open_storage: OpenStorage):
        super().__init__(file, encoding="utf-8")
        self.names = new_names()
        self.open_storage = open_storage

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        module = PYTHON_2_NAMES.get(module_name, module_name)
        name = (module, global_name)
        if name not in self.names and is_layer(*name):
            self.names[name] = stored_module(*name)
        if name not in self.names:
            raise CheckpointError(
                f"it names {f'{module}.{global_name}'[:200]!r}, which no FTI4CIR checkpoint needs; "
                "nothing was run. Do not open this file with torch.load"
            )
        return self.names[name]

    def persistent_load(self, pid: Any, /) -> Any:
        kind, *rest = pid
        if kind == "module":  # older files keep a class together with its source text
            stored_class = rest[0]
            if not (isinstance(stored_class, type) and issubclass(stored_class, StoredModule)):
                raise pickle.UnpicklingError("a class that is no module")
            return stored_class
        storage_type, key, _, count, *view = rest
        if kind != "storage" or not isinstance(storage_type, StorageType):
            raise pickle.UnpicklingError("a reference to something that is no storage")
        if not isinstance(count, int) or count < 0 or any(one is not None for one in view):
            raise pickle.UnpicklingError("a storage without a plain size")
        return self.open_storage(str(key), storage_type.dtype, count)


def read_pickle(file: IO[bytes], open_storage: OpenStorage | None = None) -> Any:
    """Reads one pickle at the file's position, which then is after it.

    Args:
        open_storage: without it, a pickle that refers to storages is refused.

    Raises:
        CheckpointError: it names something unknown.
        Exception: whatever a damaged pickle makes the unpickler raise; see ``files``.
    """
    start = file.tell()
    for opcode, argument, position in pickletools.genops(file):
        # the memo is an array: a number far beyond the file's size would take all memory
        if opcode.name in MEMO_OPCODES and int(argument or 0) > (position or 0):
            raise pickle.UnpicklingError("a memo number beyond the file's size")
    file.seek(start)
    return RestrictedUnpickler(file, open_storage or _no_storage).load()


def _no_storage(key: str, dtype: str, count: int) -> StoredStorage:
    raise pickle.UnpicklingError("a storage where none can be")
