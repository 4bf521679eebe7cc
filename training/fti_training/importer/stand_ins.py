"""What a checkpoint may name, each name bound to an object that holds state and runs nothing.

An unpickler calls what the file names (REDUCE, NEWOBJ) and hands state to it (BUILD). So nothing
real is ever named: a class of the authors or of torch.nn becomes a ``StoredModule``, a tensor a
``StoredTensor``; both keep what they are given and import, look up or call nothing. Every object
here refuses state it does not expect, which also keeps a file from writing to these classes.
"""

from __future__ import annotations

from collections import OrderedDict
from pickle import UnpicklingError
from typing import Any


class Inert:
    """Root of the stand-ins: no instance dictionary to write to, no state taken."""

    __slots__ = ()

    def __setstate__(self, state: object) -> None:
        raise UnpicklingError(f"a {type(self).__name__} takes no state")


class StoredModule(Inert):
    """A pickled ``nn.Module``: its attributes, without its code.

    Attributes:
        state: the attributes by name, torch's own ``_parameters``, ``_modules`` among them.
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


class StorageType(Inert):
    """``torch.FloatStorage`` and its like: the name of a dtype."""

    __slots__ = ("dtype",)

    def __init__(self, dtype: str):
        self.dtype = dtype


class Storage(Inert):
    """The numbers of one or more tensors, as bytes.

    Attributes:
        dtype: name of the torch dtype.
        count: number of values.
        data: filled at once, or after the pickle where the values stand behind it.
    """

    __slots__ = ("count", "data", "dtype")

    def __init__(self, dtype: str, count: int):
        self.dtype = dtype
        self.count = count
        self.data = bytearray()


class StoredTensor(Inert):
    """A view of a storage: what torch's rebuild functions are told, not yet checked."""

    __slots__ = ("offset", "shape", "storage", "stride")

    def __init__(self, storage: Storage, offset: int, shape: Any, stride: Any, *_: object):
        if not isinstance(storage, Storage):
            raise UnpicklingError("a tensor without a storage")
        self.storage = storage
        self.offset = offset
        self.shape = shape
        self.stride = stride


class Rebuild(Inert):
    """Stands in for ``torch._utils._rebuild_tensor_v2``, which the file calls."""

    __slots__ = ()

    def __call__(self, *arguments: Any) -> StoredTensor:
        return StoredTensor(*arguments)


class Unwrap(Inert):
    """Stands in for ``torch._utils._rebuild_parameter``: a parameter is its tensor."""

    __slots__ = ()

    def __call__(self, tensor: object, *_: object) -> StoredTensor:
        if not isinstance(tensor, StoredTensor):
            raise UnpicklingError("a parameter without a tensor")
        return tensor


class Named(Inert):
    """A function or device that is stored by name. Calling it gives itself."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __call__(self, *_: object) -> Named:
        return self


AUTHORS = {
    "i2t_model": ("IMG2TEXT", "Phi"),
    "MHTransformer": ("Transformer", "TransformerLayer", "MultiHeadAttention", "MlpTransformer"),
}

LAYERS = {
    "torch.nn.modules.activation": ("GELU", "ReLU", "Sigmoid", "Softmax"),
    "torch.nn.modules.container": ("ModuleList", "Sequential"),
    "torch.nn.modules.dropout": ("Dropout",),
    "torch.nn.modules.linear": ("Identity", "Linear"),
    "torch.nn.modules.normalization": ("LayerNorm",),
    "torch.nn.parallel.data_parallel": ("DataParallel",),
}

STORAGES = {
    "BFloat16Storage": "bfloat16",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "LongStorage": "int64",
}


def fresh_names() -> dict[tuple[str, str], Any]:
    """(module, name) -> stand-in, for one file; its classes are not shared with the next."""
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
    for module, classes in (AUTHORS | LAYERS).items():
        for name in classes:
            names[module, name] = type(name, (StoredModule,), {"__slots__": ()})
    return names
