"""ONNX files: the reader of Protocol Buffers, and the check before ONNX Runtime opens one."""

from functools import cache

from model.bundle.onnx_check import NetworkError, check_network
from model.bundle.protobuf import VARINT, WireError, read_fields


def field(number: int, content: bytes | int) -> bytes:
    """One field of a message: bytes, or a number."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])


@cache
def seeds() -> list[bytes]:
    """Small networks, made field by field: plain ones, and one for each thing that is refused."""
    axis = field(1, field(1, 4)) + field(1, field(2, b"batch"))
    value = field(1, b"x") + field(2, field(1, field(1, 1) + field(2, axis)))
    tensor = field(1, 2) + field(2, 1) + field(8, b"w") + field(9, bytes(8))
    shape = field(1, 1) + field(2, 7) + field(8, b"s") + field(7, 2**40)
    node = field(1, b"x") + field(1, b"s") + field(2, b"y") + field(4, b"Reshape")
    pads = field(5, field(1, b"pads") + field(8, 2**40) + field(20, 7))
    graphs = [
        field(1, node) + field(5, tensor) + field(11, value) + field(12, value),
        field(1, node) + field(5, shape),
        field(1, node + pads),
        field(1, node + field(7, b"com.microsoft")),
        field(1, field(4, b"If") + field(5, field(6, field(1, node)))),
        field(5, tensor + field(14, 1) + field(13, field(1, b"location"))),
        field(5, field(1, 2**31) + field(2, 1)),
    ]
    overlong = b"\x08" + b"\xff" * 9 + b"\x7f"  # a number of 70 bits
    return [overlong, *(field(1, 8) + field(7, graph) + field(8, field(2, 17)) for graph in graphs)]


def check(data: bytes) -> str:
    """Read the fields of a file, and check it as a network."""
    try:
        fields = list(read_fields(memoryview(data)))
    except WireError:
        fields = []
    for one in fields:
        assert 0 <= one.value < 2**64
        assert one.wire == VARINT or one.content.obj is data
    try:
        check_network(data)
    except NetworkError as error:
        assert str(error).isprintable()
        assert len(str(error)) < 2000
        return str(error).rpartition("found ")[2].partition(" (")[0][:30]
    return "accepted"
