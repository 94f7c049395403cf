"""Networks that lead out of their file, or claim absurd sizes, are refused before ONNX Runtime opens them."""

from collections.abc import Callable
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from model.bundle import AGGREGATOR, BACKBONE, ITEMS, Bundle, onnx_check
from model.bundle.onnx_check import NetworkError, check_network

FLOAT = TensorProto.FLOAT


def plain(*nodes: Any, constants: tuple[Any, ...] = (), shape: tuple[Any, ...] = ("batch", 4)) -> Any:
    """A network with one input, which adds a constant to it unless other nodes are given."""
    graph = helper.make_graph(
        list(nodes) or [helper.make_node("Add", ["x", "one"], ["y"])],
        "network",
        [helper.make_tensor_value_info("x", FLOAT, shape)],
        [helper.make_tensor_value_info("y", FLOAT, None)],
        [numpy_helper.from_array(np.ones(4, np.float32), "one"), *constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def node(operator: str, *inputs: str, **attributes: Any) -> Any:
    return helper.make_node(operator, ["x", *inputs], ["y"], **attributes)


def int64(name: str, *values: int) -> Any:
    return numpy_helper.from_array(np.array(values, np.int64), name)


def claims(*sizes: int) -> Any:
    """A constant that claims a shape and has no data."""
    return TensorProto(name="claim", data_type=FLOAT, dims=sizes)


def external(location: str) -> Any:
    tensor = claims(4)
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    return tensor


def unlabelled() -> Any:
    """Data in another file by its list of places alone."""
    tensor = external("weights.bin")
    tensor.ClearField("data_location")
    return tensor


def with_function() -> Any:
    model = plain()
    model.functions.append(
        helper.make_function("", "Again", ["x"], ["y"], [node("Again")], [helper.make_opsetid("", 18)])
    )
    return model


def with_training() -> Any:
    model = plain()
    model.training_info.add()
    return model


def in_a_branch(tensor: Any) -> Any:
    branch = helper.make_graph([], "branch", [], [helper.make_tensor_value_info("claim", FLOAT, None)], [tensor])
    return plain(helper.make_node("If", ["x"], ["y"], then_branch=branch, else_branch=branch))


def sparse() -> Any:
    model = plain()
    model.graph.sparse_initializer.add(dims=[2**40])
    return model


def of_type(kind: Any) -> Any:
    model = plain()
    model.graph.input.add(name="more").type.CopyFrom(kind)
    return model


HOSTILE: dict[str, tuple[Callable[[], Any], str]] = {
    "external data": (lambda: plain(constants=(external("weights.bin"),)), "another file"),
    "external data of the machine": (lambda: plain(constants=(external("/etc/passwd"),)), "another file"),
    "data at an address in memory": (lambda: plain(constants=(external("*/_ORT_MEM_ADDR_/*"),)), "another file"),
    "external data without its mark": (lambda: plain(constants=(unlabelled(),)), "another file"),
    "external data of a node": (lambda: plain(node("Constant", value=external("a"))), "another file"),
    "external data in a branch": (lambda: in_a_branch(external("a")), "another file"),
    "a custom operator": (lambda: plain(node("Run", domain="com.example")), "'Run' of 'com.example'"),
    "an operator that opens files": (
        lambda: plain(node("EPContext", domain="com.microsoft", ep_cache_context="/etc/passwd")), "'com.microsoft'",
    ),
    "a foreign operator in a branch": (
        lambda: plain(
            node("If", then_branch=helper.make_graph([node("Run", domain="a")], "b", [], []))
        ), "'Run' of 'a'",
    ),
    "a function": (with_function, "functions"),
    "training": (with_training, "training information"),
    "a loop": (lambda: plain(node("Loop", body=helper.make_graph([], "body", [], []))), "Loop"),
    "sparse tensors": (sparse, "sparse"),
    "text": (lambda: plain(constants=(helper.make_tensor("claim", TensorProto.STRING, [1], cast("Any", [b"a"])),)), "text"),
    "a sequence": (lambda: of_type(helper.make_sequence_type_proto(helper.make_tensor_type_proto(FLOAT, []))), "field 4"),
    "a text input": (lambda: of_type(helper.make_tensor_type_proto(TensorProto.STRING, [1])), "data type 8"),
    "a constant without its data": (lambda: plain(constants=(claims(2**27),)), "134,217,728 numbers"),
    "an absurd constant": (lambda: plain(constants=(claims(2**20, 2**20),)), "at most 268,435,456"),
    "a product beyond 64 bits": (lambda: plain(constants=(claims(2**32, 2**32),)), "at most 268,435,456"),
    "a product that zero hides": (lambda: plain(constants=(claims(2**62, 0),)), "at most 268,435,456"),
    "a negative size": (lambda: plain(constants=(claims(-4, -4),)), "0 or more"),
    "a thousand axes": (lambda: plain(constants=(claims(*[1] * 1000),)), "8 axes"),
    "an absurd input": (lambda: plain(shape=("batch", 2**40)), "at most 268,435,456"),
    "an absurd fill": (
        lambda: plain(helper.make_node("ConstantOfShape", ["s"], ["y"]), constants=(int64("s", 2**20, 2**20),)), "ConstantOfShape",
    ),
    "an absurd repetition": (lambda: plain(node("Tile", "s"), constants=(int64("s", 2**40, 1),)), "Tile"),
    "an absurd size in a node": (
        lambda: plain(helper.make_node("Constant", [], ["s"], value_ints=[2**33]), node("Expand", "s")), "Expand",
    ),
    "an absurd size as typed data": (
        lambda: plain(node("Expand", "s"), constants=(helper.make_tensor("s", TensorProto.INT64, [1], [2**33]),)), "Expand",
    ),
    "an absurd range": (
        lambda: plain(
            helper.make_node("Range", ["a", "b", "c"], ["y"]),
            constants=(int64("a", 0), int64("b", 2**40), int64("c", 1)),
        ), "Range",
    ),
    "an absurd enlargement": (
        lambda: plain(node("Resize", "", "s"), constants=(numpy_helper.from_array(np.array([1e9], np.float32), "s"),)), "Resize",
    ),
    "an absurd padding": (lambda: plain(node("Conv", "one", pads=[2**30] * 4)), "pads"),
    "an absurd kernel": (lambda: plain(node("MaxPool", kernel_shape=[2**15, 2**15])), "kernel_shape"),
    "an absurd random tensor": (lambda: plain(helper.make_node("RandomNormal", [], ["y"], shape=[2**16, 2**16])), "shape"),
}  # fmt: skip


@pytest.mark.parametrize(("made", "words"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_network_is_refused(made: Callable[[], Any], words: str) -> None:
    with pytest.raises(NetworkError) as refused:
        check_network(made().SerializeToString())
    assert words in str(refused.value)
    assert str(refused.value).startswith("expected")


def field(number: int, content: bytes) -> bytes:
    """A field of bytes: TensorProto has one, number 9, from which another number makes the wanted one."""
    return bytes([number << 3 | 2]) + TensorProto(raw_data=content).SerializeToString()[1:]


def nested(depth: int) -> bytes:
    """The content of a graph with a node with an attribute with a graph, and so on."""
    return field(1, field(5, field(6, nested(depth - 1)))) if depth else b""


GRAPH = field(7, b"")
WIRE: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "without a graph"),
    "a text": (b"no network", "wire type 6"),
    "half a number": (b"\x08\x80", "ends early"),
    "a number without an end": (b"\x08" + b"\x80" * 100, "ten bytes"),
    "a length beyond the file": (b"\x3a\xff\xff\xff\xff\x0f", "ends early"),
    "a group": (b"\x0b\x0c", "wire type 3"),
    "an unknown field": (GRAPH + field(15, b"new"), "field 15"),
    "a known field of another type": (b"\x38\x01", "field 7"),
    "two graphs, which would be merged": (GRAPH + GRAPH, "field 7 of a model once"),
    "two domains, of which the last counts": (
        field(7, field(1, field(4, b"Add") + field(7, b"") + field(7, b"evil"))), "field 7 of a node once"
    ),
    "graphs inside each other": (field(7, nested(20)), "16 messages"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "words"), WIRE.values(), ids=WIRE)
def test_bytes_that_are_no_plain_message_are_refused(data: bytes, words: str) -> None:
    with pytest.raises(NetworkError) as refused:
        check_network(data)
    assert words in str(refused.value)


def test_more_fields_than_the_limit_are_refused() -> None:
    with pytest.raises(NetworkError, match="200,000 fields"):
        check_network(b"\x08\x01" * (onnx_check.MAX_FIELDS + 1))


def test_a_file_that_onnx_runtime_would_take_for_its_own_format_is_read_as_onnx(bundle: Bundle) -> None:
    from model.sessions import open_session  # noqa: PLC0415

    content = b"\x12\x06??ORTM" + (bundle.path / AGGREGATOR).read_bytes()  # the name of a producer
    check_network(content)
    session = open_session(bundle.path / AGGREGATOR, 1, content=content)
    assert [one.name for one in session.get_outputs()] == ["scores", "attention"]


def test_the_shipped_networks_are_plain(bundle: Bundle) -> None:
    for name in (BACKBONE, ITEMS, AGGREGATOR):
        check_network((bundle.path / name).read_bytes())


PLAIN: dict[str, Callable[[], Any]] = {
    "an addition": plain,
    "a branch": lambda: in_a_branch(numpy_helper.from_array(np.ones(4, np.float32), "claim")),
    "a reshape to a size that is computed": lambda: plain(node("Reshape", "s"), constants=(int64("s", -1, 4),)),
    "a slice to the end": lambda: plain(
        node("Slice", "from", "to"), constants=(int64("from", 0), int64("to", 2**63 - 1))
    ),
    "numbers of four bits": lambda: plain(constants=(helper.make_tensor("c", TensorProto.INT4, [64], [1] * 64),)),
    "an empty constant": lambda: plain(constants=(claims(0),)),
}


@pytest.mark.parametrize("made", PLAIN.values(), ids=PLAIN)
def test_a_plain_network_is_accepted(made: Callable[[], Any]) -> None:
    check_network(made().SerializeToString())


@given(st.binary(max_size=200), st.integers(0, 10_000), st.integers(0, 200))
def test_whatever_the_bytes_the_answer_is_yes_or_a_refusal(noise: bytes, place: int, cut: int) -> None:
    whole = plain().SerializeToString()
    place %= len(whole)
    for data in (noise, whole[:place] + noise + whole[place + cut :]):
        try:
            check_network(data)
        except NetworkError as refused:
            assert "\n" not in str(refused)
