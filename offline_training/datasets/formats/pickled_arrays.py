"""Unpickles what a stranger pickled with numpy's arrays in it. Arrays become lists, and their numbers those of Python.

Nothing of the file is called, and numpy never sees its state: numpy believes a type that claims that its pointers are numbers, and
reads shapes unchecked.
"""

import pickle
from math import prod
from typing import Any

import numpy as np

from offline_training.datasets.records import DatasetError

CODECS = ("latin1", "latin-1")  # with which Python 3 pickles bytes for Python 2
KINDS = "biufcOSUV"  # of types, as numpy abbreviates them: no dates, which have a state of their own
ARRAY = object()  # stands for the class of arrays


class ArrayUnpickler(pickle.Unpickler):
    """Unpickles what numpy writes, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """What a name stands for. Raises DatasetError if no data set needs it."""
        # Bound methods, because an attribute of a function or a class could be set by the file.
        known = {
            ("multiarray", "_reconstruct"): self._array,
            ("multiarray", "scalar"): self._scalar,
            ("numpy", "ndarray"): ARRAY,
            ("numpy", "dtype"): self._type,
            ("_codecs", "encode"): self._encoded,
        }
        made = known.get((module.rpartition(".")[2], name))
        if made is None or not module.startswith(("numpy", "_codecs")):
            raise DatasetError(f"refused to read the file: it calls {module}.{name}, which no data set needs")
        return made

    def _array(self, *_: object) -> "_Array":
        return _Array()

    def _scalar(self, claimed: "_Type", data: Any) -> Any:
        return data if claimed.type.hasobject else claimed.values(data, 1)[0]

    def _type(self, name: str | bytes, *_: object) -> "_Type":
        return _Type(name)

    def _encoded(self, text: str, codec: str) -> bytes:
        if codec not in CODECS:
            raise ValueError(f"text of the codec {codec!r}")
        return text.encode("latin-1")


class _Type:
    """A type that numpy makes from its name alone. Of its state only the order of the bytes counts."""

    __slots__ = ("type",)

    def __init__(self, name: str | bytes) -> None:
        found = np.dtype(name.decode("ascii") if isinstance(name, bytes) else str(name))
        if found.kind not in KINDS or found.names is not None or found.subdtype is not None:
            raise ValueError(f"neither text, numbers nor objects: {found}")
        self.type: np.dtype[Any] = found

    def __setstate__(self, state: Any) -> None:
        _, order, parts, names, fields, *_ = state
        if (parts, names, fields) != (None, None, None):
            raise ValueError("a type with fields")
        order = order.decode("ascii") if isinstance(order, bytes) else order
        if order in ("<", ">"):
            self.type = self.type.newbyteorder(order)

    def values(self, data: str | bytes, count: int) -> list[Any]:
        """The `count` values that are written as these bytes."""
        data = data.encode("latin-1") if isinstance(data, str) else data
        if len(data) != count * self.type.itemsize:
            raise ValueError(f"{len(data)} bytes for {count} values of {self.type}")
        return np.frombuffer(data, self.type).tolist() if data else []


class _Array(list[Any]):
    """An array, as a list of its rows."""

    def __setstate__(self, state: Any) -> None:
        _, shape, claimed, columns_first, content = state
        if not isinstance(claimed, _Type) or not all(isinstance(length, int) and length >= 0 for length in shape):
            raise TypeError("an array without a type or a shape")
        count = prod(shape)
        values = content if claimed.type.hasobject else claimed.values(content, count)
        if not isinstance(values, list) or len(values) != count:
            raise ValueError(f"expected {count} values of an array")
        if columns_first and not claimed.type.hasobject:
            order = np.arange(count).reshape(shape, order="F").ravel()
            values = [values[at] for at in order]
        self[:] = _rows(values, shape[1:]) if count else []


def _rows(values: list[Any], shape: tuple[int, ...]) -> list[Any]:
    """The values in rows of this shape."""
    if not shape:
        return values
    length = prod(shape)
    return [_rows(values[at : at + length], shape[1:]) for at in range(0, len(values), length)]
