"""Stand-ins for everything that a checkpoint may name: objects that hold state and run nothing.

An unpickler calls what the file names (REDUCE, NEWOBJ) and passes state to it (BUILD). So no name
leads to a real object: a class of the authors or of ``torch.nn.modules`` becomes a
``StoredModule``, a tensor a ``StoredTensor``; both keep what they are given and import or call
nothing. Every object here
refuses state that it does not expect, so that a file cannot write to these classes.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from pickle import UnpicklingError
from typing import Any

from torch import nn


class StandIn:
    """Base class: no instance dictionary to write to, no state accepted."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise UnpicklingError(f"a {type(self).__name__} takes no state")


class StoredModule(StandIn):
    """A pickled ``nn.Module``: its attributes, without its code.

    Attributes:
        state: the attributes by name, including torch's own ``_parameters`` and ``_modules``.
    """

    __slots__ = ("state",)
    state: dict[str, Any]

    def __new__(cls) -> StoredModule:
        self = super().__new__(cls)
        self.state = {}
        return self

    def __setstate__(self, state: object) -> None:
        if not isinstance(state, dict):
            raise UnpicklingError(f"a {type(self).__name__} holds no attributes")
        self.state = state


class StorageType(StandIn):
    """``torch.FloatStorage`` and its like: the name of a dtype."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str):
        self.dtype = dtype


class StoredStorage(StandIn):
    """The numbers of one or more tensors, as bytes.

    Attributes:
        dtype: name of the torch dtype.
        count: number of values.
        data: filled at once, or after the pickle if the values follow it.
    """

    __slots__ = ("count", "data", "dtype")

    def __init__(self, dtype: str, count: int):
        self.dtype = dtype
        self.count = count
        self.data = bytearray()


class StoredTensor(StandIn):
    """A view of a storage: the arguments of torch's rebuild functions, not yet checked."""

    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: StoredStorage, offset: int, shape: Any, stride: Any, *_: object):
        if not isinstance(storage, StoredStorage):
            raise UnpicklingError("a tensor without a storage")
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.stride = stride


class Rebuild(StandIn):
    """Stands in for ``torch._utils._rebuild_tensor_v2``, which the file calls."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> StoredTensor:
        return StoredTensor(*arguments)


class Unwrap(StandIn):
    """Stands in for ``torch._utils._rebuild_parameter``: a parameter is its tensor."""

    __slots__ = ()

    def __call__(self, tensor: object, *_: object) -> StoredTensor:
        if not isinstance(tensor, StoredTensor):
            raise UnpicklingError("a parameter without a tensor")
        return tensor


class Named(StandIn):
    """A function or device that is stored by name. A call returns the object itself."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *_: object) -> Named:
        return self


AUTHORS = {
    "i2t_model": ("IMG2TEXT", "Phi"),
    "MHTransformer": ("Transformer", "TransformerLayer", "MultiHeadAttention", "MlpTransformer"),
}

WRAPPERS = {"torch.nn.parallel.data_parallel": ("DataParallel",)}

LAYERS = "torch.nn.modules."
"""Start of the names of the modules whose classes a network may hold, losses among them."""

STORAGES = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "ShortStorage": "int16",
}


def is_layer(module: str, name: str) -> bool:
    """Whether this is a class of ``torch.nn.modules``; only looked up, so that nothing can run.

    Functions and what these modules import themselves have such names, too, and are no layers.

    Example:
        >>> is_layer("torch.nn.modules.loss", "MSELoss")
        True
        >>> is_layer("torch.nn.modules.module", "register_module_forward_hook")
        False
    """
    if not module.startswith(LAYERS) or module not in sys.modules:
        return False
    found = vars(sys.modules[module]).get(name)
    return isinstance(found, type) and issubclass(found, nn.Module) and found.__module__ == module


def stored_module(module: str, name: str) -> type[StoredModule]:
    """A new stand-in for a class of networks."""
    return type(name, (StoredModule,), {"__slots__": (), "__module__": module})


def new_names() -> dict[tuple[str, str], Any]:
    """(module, name) -> stand-in, for one file; no class is shared with another file.

    Layers are added when a file names them.
    """
    names: dict[tuple[str, str], Any] = {
        ("collections", "OrderedDict"): OrderedDict,
        ("builtins", "set"): set,
        ("torch", "device"): Named("device"),
        ("torch.nn.functional", "relu"): Named("relu"),
        ("torch.nn.functional", "gelu"): Named("gelu"),
        ("torch._C._nn", "gelu"): Named("gelu"),
        ("torch._utils", "_rebuild_tensor_v2"): Rebuild(),
        ("torch._utils", "_rebuild_parameter"): Unwrap(),
        ("torch._utils", "_rebuild_parameter_with_state"): Unwrap(),
    }
    for name, dtype in STORAGES.items():
        names["torch", name] = StorageType(dtype)
    for module, classes in (AUTHORS | WRAPPERS).items():
        for name in classes:
            names[module, name] = stored_module(module, name)
    return names
