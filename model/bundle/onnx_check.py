"""Checks an ONNX file before ONNX Runtime opens it. Pure, bounded, and without the package `onnx`.

ONNX Runtime follows a file far: it opens other files that tensors name, reads memory at an address that a tensor names, runs
operators of its own that open files, and allocates what a shape claims. So the messages of a file are read here first. They
may have only the fields that a network of a bundle needs. A field that is not listed is refused and not skipped, because a
newer ONNX Runtime may follow what is unknown here.

Not checked: what a network computes. It may still take much time or memory when it runs.

https://github.com/onnx/onnx/blob/main/onnx/onnx.proto
"""

from math import isfinite, prod
from typing import NamedTuple

import numpy as np

from model.bundle.protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, WireError, read_fields, read_integers

MAX_NETWORK_BYTES = 512 * 1024**2  # a file is read into memory; MobileNet in floats has 17 MB, ViT-B 350 MB
MAX_FIELDS = 200_000  # of all messages in a file; the shipped embedder has 6,000
MAX_DEPTH = 16  # messages inside each other; a tensor in a branch of an `If` is at 7
MAX_AXES = 8  # of a tensor; the shipped networks have 4
MAX_ELEMENTS = 2**28  # that a shape claims; 1 GiB of float32
MAX_WINDOW = 2**16  # padding, stride and size of a kernel, pixels
MAX_SHAPE_VALUES = 16  # a constant of more values is no shape, and not read

STANDARD_DOMAINS = {"", "ai.onnx"}  # of operators; EPContext of com.microsoft opens other files
ENDLESS_OPERATORS = {"Loop"}  # may run for as long as the file says
WINDOWS = {"pads", "kernel_shape", "strides", "dilations", "output_shape", "output_padding", "shape"}  # attributes

# Inputs of operators that say how large the output is.
_SIZE_INPUTS = {
    "ConstantOfShape": (0,),
    "Expand": (1,),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1),
    "Reshape": (1,),
    "Resize": (2, 3),
    "Tile": (1,),
}

_FLOAT, _INT32, _INT64 = 1, 6, 7  # TensorProto.DataType
_NUMERIC = {*range(1, 8), *range(9, 14), *range(16, 23)}  # not text (8), complex numbers, or what is added later
_RAW = {_FLOAT: np.dtype("<f4"), _INT32: np.dtype("<i4"), _INT64: np.dtype("<i8")}

_TEXT, _NUMBER = {BYTES}, {VARINT}
_INTEGERS, _FLOATS, _DOUBLES = {VARINT, BYTES}, {FIXED32, BYTES}, {FIXED64, BYTES}  # one by itself, or packed

# The fields that a message may have: their wire types, or the message that they hold.
_ALLOWED: dict[str, dict[int, set[int] | str]] = {
    "model": {
        1: _NUMBER, 2: _TEXT, 3: _TEXT, 4: _TEXT, 5: _NUMBER, 6: _TEXT, 7: "graph", 8: "operator set", 14: "property",
    },
    "operator set": {1: _TEXT, 2: _NUMBER},
    "property": {1: _TEXT, 2: _TEXT},
    "graph": {
        1: "node", 2: _TEXT, 5: "tensor", 10: _TEXT, 11: "value", 12: "value", 13: "value", 14: "quantization", 16: "property",
    },
    "quantization": {1: _TEXT, 2: "property"},
    "node": {1: _TEXT, 2: _TEXT, 3: _TEXT, 4: _TEXT, 5: "attribute", 6: _TEXT, 7: _TEXT, 9: "property"},
    "attribute": {
        1: _TEXT, 2: {FIXED32}, 3: _NUMBER, 4: _TEXT, 5: "tensor", 6: "graph", 7: _FLOATS, 8: _INTEGERS, 9: _TEXT, 13: _TEXT,
        20: _NUMBER,
    },
    "tensor": {
        1: _INTEGERS, 2: _NUMBER, 4: _FLOATS, 5: _INTEGERS, 7: _INTEGERS, 8: _TEXT, 9: _TEXT, 10: _DOUBLES, 11: _INTEGERS,
        12: _TEXT, 14: _NUMBER, 16: "property",
    },
    "value": {1: _TEXT, 2: "type", 3: _TEXT, 4: "property"},
    "type": {1: "tensor type", 6: _TEXT},
    "tensor type": {1: _NUMBER, 2: "shape"},
    "shape": {1: "axis"},
    "axis": {1: _NUMBER, 2: _TEXT, 3: _TEXT},
}  # fmt: skip

# Fields that may be there once: if there are two, Protocol Buffers merges them, or the last one counts.
_ONCE = {
    "model": {7},
    "node": {4, 7},
    "attribute": {1, 3, 5, 6},
    "tensor": {2, 8, 9, 14},
    "value": {2},
    "type": {1},
    "tensor type": {1, 2},
    "axis": {1},
}

# Fields that are not allowed and have a name that a reader of the error knows.
_NAMED = {
    ("model", 20): "training information",
    ("model", 25): "functions",
    ("node", 8): "functions",
    ("attribute", 21): "functions",
    ("graph", 15): "sparse tensors",
    ("attribute", 22): "sparse tensors",
    ("attribute", 23): "sparse tensors",
    ("tensor", 6): "text in a tensor",
    ("tensor", 13): "data in another file",
    ("tensor", 3): "a tensor in segments",
}


class NetworkError(ValueError):
    """An ONNX file is refused. The text says what was expected and what was found."""


def check_network(data: bytes) -> None:
    """Check the content of an ONNX file: a plain network of standard operators, with all of its data inside.

    Raises:
        NetworkError: It is something else, or claims absurd sizes.
    """
    try:
        _Checker().check(memoryview(data))
    except WireError as error:
        raise NetworkError(f"expected an ONNX file, found {error}") from error


class _Message(NamedTuple):
    fields: list[Field]
    inner: list[tuple[int, "_Message"]]  # the messages in it, with the numbers of their fields
    size: int  # bytes

    def number(self, field: int) -> int:
        return next((one.value for one in self.fields if one.number == field), 0)

    def texts(self, field: int) -> list[str]:
        return [bytes(one.content).decode("utf-8", "backslashreplace") for one in self.fields if one.number == field]

    def text(self, field: int) -> str:
        return next(iter(self.texts(field)), "")

    def integers(self, field: int, most: int) -> list[int]:
        """The integers of a repeated field: all of them, or the first `most` + 1."""
        found: list[int] = []
        for one in self.fields:
            if one.number == field:
                for value in read_integers(one):
                    found.append(value)
                    if len(found) > most:
                        return found
        return found

    def messages(self, field: int) -> list["_Message"]:
        return [message for number, message in self.inner if number == field]


class _Checker:
    """One pass over one file."""

    def __init__(self) -> None:
        self._fields = 0
        self._constants: dict[str, list[float]] = {}  # constants that may be a shape, by name
        self._sizes: list[
            tuple[str, str]
        ] = []  # operators, and the names of the inputs that say how large the output is

    def check(self, data: memoryview) -> None:
        if not self._message("model", data, 1).messages(7):
            raise NetworkError("expected an ONNX file, found one without a graph")
        for operator, name in self._sizes:
            values = self._constants.get(name, [])
            if not all(map(isfinite, values)) or prod(max(1.0, abs(value)) for value in values) > MAX_ELEMENTS:
                raise NetworkError(f"expected sizes of at most {MAX_ELEMENTS:,} numbers, found {operator} to {values}")

    def _message(self, kind: str, data: memoryview, depth: int) -> _Message:
        """Check a message, and first the messages in it."""
        if depth > MAX_DEPTH:
            raise NetworkError(f"expected at most {MAX_DEPTH} messages inside each other, found more")
        message = _Message([], [], len(data))
        seen: set[int] = set()
        for field in read_fields(data):
            self._fields += 1
            if self._fields > MAX_FIELDS:
                raise NetworkError(f"expected at most {MAX_FIELDS:,} fields, found more")
            if field.number in seen and field.number in _ONCE.get(kind, ()):
                raise NetworkError(f"expected field {field.number} of a {kind} once, found it again")
            seen.add(field.number)
            allowed = _ALLOWED[kind].get(field.number, set[int]())
            if isinstance(allowed, str) and field.wire == BYTES:
                message.inner.append((field.number, self._message(allowed, field.content, depth + 1)))
            elif isinstance(allowed, str) or field.wire not in allowed:
                what = _NAMED.get((kind, field.number), f"field {field.number} (wire type {field.wire}) in a {kind}")
                raise NetworkError(f"expected a plain network with all of its data inside, found {what}")
            else:
                message.fields.append(field)
        if kind in _CHECKS:
            _CHECKS[kind](self, message)
        return message

    def _node(self, node: _Message) -> None:
        operator, domain, inputs = node.text(4), node.text(7), node.texts(1)
        if domain not in STANDARD_DOMAINS:
            raise NetworkError(f"expected standard operators, found {_shown(operator)} of {_shown(domain)}")
        if operator in ENDLESS_OPERATORS:
            raise NetworkError(f"expected operators that end, found {_shown(operator)}")
        self._sizes += [(operator, inputs[at]) for at in _SIZE_INPUTS.get(operator, ()) if at < len(inputs)]
        if operator == "Constant":
            for attribute in node.messages(5):
                values = [float(value) for value in attribute.integers(8, MAX_SHAPE_VALUES)]
                values += [value for tensor in attribute.messages(5) for value in _small_values(tensor)]
                if attribute.text(1) == "value_int":
                    values.append(float(_first_integer(attribute, 3)))
                self._keep(node.text(2), values)

    def _tensor(self, tensor: _Message) -> None:
        if tensor.number(14):
            raise NetworkError("expected a plain network with all of its data inside, found data in another file")
        if tensor.number(2) not in _NUMERIC:
            raise NetworkError(f"expected tensors of numbers, found data type {tensor.number(2)}")
        elements = _elements(tensor.integers(1, MAX_AXES))
        if elements > 2 * tensor.size:  # the smallest number has four bits
            raise NetworkError(
                f"expected the data of {_shown(tensor.text(8))}, {elements:,} numbers, found {tensor.size:,} bytes"
            )
        self._keep(tensor.text(8), _small_values(tensor))

    def _attribute(self, attribute: _Message) -> None:
        name, values = attribute.text(1), attribute.integers(8, MAX_SHAPE_VALUES)
        if name not in WINDOWS:
            return
        if max(map(abs, values), default=0) > MAX_WINDOW or prod(max(1, abs(one)) for one in values) > MAX_ELEMENTS:
            raise NetworkError(f"expected {name} of at most {MAX_WINDOW:,}, found {values}")

    def _shape(self, shape: _Message) -> None:
        sizes = [_first_integer(axis, 1) for axis in shape.messages(1)]
        _elements([1 if size == -1 else size for size in sizes])  # some exporters write -1 for an unknown size

    def _tensor_type(self, tensor: _Message) -> None:
        if tensor.number(1) not in _NUMERIC:
            raise NetworkError(f"expected tensors of numbers, found data type {tensor.number(1)}")

    def _keep(self, name: str, values: list[float]) -> None:
        """Remember a constant. If two have one name, in a graph and a branch, both count."""
        if name and values:
            self._constants.setdefault(name, []).extend(values)


_CHECKS = {
    "node": _Checker._node,
    "tensor": _Checker._tensor,
    "attribute": _Checker._attribute,
    "shape": _Checker._shape,
    "tensor type": _Checker._tensor_type,
}


def _elements(sizes: list[int]) -> int:
    """The number of elements of a shape. An axis of unknown size counts once."""
    if len(sizes) > MAX_AXES:
        raise NetworkError(f"expected tensors of at most {MAX_AXES} axes, found more")
    if min(sizes, default=0) < 0:
        raise NetworkError(f"expected sizes of 0 or more, found {sizes}")
    if prod(max(1, size) for size in sizes) > MAX_ELEMENTS:
        raise NetworkError(f"expected tensors of at most {MAX_ELEMENTS:,} numbers, found {sizes}")
    return prod(sizes)


def _first_integer(message: _Message, field: int) -> int:
    return next(iter(message.integers(field, 1)), 0)


def _small_values(tensor: _Message) -> list[float]:
    """The values of a tensor that may be a shape; none of a tensor that has too many, or another data type."""
    dtype = _RAW.get(tensor.number(2))
    if dtype is None or _elements(tensor.integers(1, MAX_AXES)) > MAX_SHAPE_VALUES:
        return []
    typed = [float(one) for field in (5, 7) for one in tensor.integers(field, MAX_SHAPE_VALUES)]
    floats = [bytes(one.content) for one in tensor.fields if one.number in {9, 4}]
    return typed + [
        float(value)
        for content in floats
        if len(content) % dtype.itemsize == 0 and len(content) <= MAX_SHAPE_VALUES * dtype.itemsize
        for value in np.frombuffer(content, dtype)
    ]


def _shown(text: str) -> str:
    """A name from the file, visible and not long."""
    return ascii(text if len(text) <= 60 else text[:60] + "...")
