"""Adds the kinds to a bundle whose backbone is MobileNet v1, without training.

    items.onnx        embedding [B, d] -> [B, d + K]; the further numbers are log probabilities of the kinds of the item
    aggregator.onnx   scores [B, D] -> [B, D + K]; the further scores are the shares of the kinds in the bag, which sum to 1

The networks of the bundle stay as they are. But a category whose kinds no picture shows is less probable than its own network
says, which has seen nothing but its own categories. So its score is multiplied by `m ^ PLAUSIBLE`, with m the largest
probability that an item of the bag is of a kind of the category, relative to the heaviest item.

This module needs onnx, but no torch.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from model.aggregator import LOG_WEIGHT
from model.bundle import AGGREGATOR, BACKBONE, ITEMS, LABELS, MANIFEST, Bundle, file_sha256
from model.bundle.manifest import Embedding, Field, Provenance, encode
from model.bundle.versions import with_versions
from model.exceptions import BundleError
from offline_training.bundles.kinds.table import SOFTNESS, KindHead, read_categories
from offline_training.exporting.graphs import strip_and_check

Measure = Callable[[Bundle], dict[str, dict[str, float]]]
"""Evaluates a bundle; returns the `metrics` of its manifest."""

FIELD = "kind"
"""Name of the field that the kinds are."""
LEAST = -8.0
"""Least log probability. An embedding is stored with one byte for each number, of the range of all its numbers."""
SCALE = 0.5
"""Factor of the log probabilities, so that their range is about that of the codes, which then lose no precision."""
PLAUSIBLE = 0.2
"""Exponent with the best micro F1 on validation users of the shipped bundle."""
LEAST_PLAUSIBLE = 1e-3
"""Least m, so that a score is at most divided by four: the kinds err, too."""
KINDS = Provenance(
    "MobileNet v1 1.0 224, trained on ImageNet",
    "outputs of its last layer, combined to kinds of products (kinds.csv)",
    "Apache-2.0",
    "The TensorFlow Authors (TF-Slim image classification models)",
)
_NEW, _OWN = "kinds/", "own/"  # prefixes of names


def add_kinds(
    bundle: Bundle, head: KindHead, out: Path, *, version: str, measure: Measure = lambda _: {}, note: str = ""
) -> Bundle:
    """Write a bundle that tells the kinds beside its own categories.

    It has another embedder version than `bundle`, and the same backbone version.

    Args:
        bundle: a bundle with a backbone that makes the features of `head`, and an item network.
        head: tells the kinds from features.
        out: folder of the new bundle. Its files are replaced.
        version: its version.
        measure: evaluates the new bundle.
        note: command line to note in the manifest, beside that of `bundle`.

    Returns:
        The new bundle, loaded as a worker loads it.

    Raises:
        BundleError: `bundle` has no item network, other features, the kinds or the trend already, or is in `out`.
    """
    _check(bundle, head, out)
    manifest = bundle.manifest
    size, kinds = bundle.embedding_size, len(head.kinds)
    out.mkdir(parents=True, exist_ok=True)
    (out / BACKBONE).write_bytes((bundle.path / BACKBONE).read_bytes())
    onnx.save(_with_item_kinds(onnx.load(str(bundle.path / ITEMS)), head), str(out / ITEMS))
    aggregator = _with_bag_kinds(
        onnx.load(str(bundle.path / AGGREGATOR)), size, _plausible(bundle.categories, head.kinds)
    )
    onnx.save(aggregator, str(out / AGGREGATOR))
    for name in (ITEMS, AGGREGATOR):
        strip_and_check(out / name)
    own = len(manifest.categories)
    made = msgspec.structs.replace(
        manifest,
        version=version,
        files={name: file_sha256(out / name) for name in (BACKBONE, ITEMS, AGGREGATOR)},
        embedding=Embedding(size + kinds, f"{manifest.embedding.network}, with {kinds} numbers for kinds of products"),
        categories=[*manifest.categories, *head.kinds],
        prior=[*manifest.prior, *[round(1 / kinds, 5)] * kinds],
        fields=[*manifest.fields, Field(FIELD, list(range(own, own + kinds)))],
        sources=[*manifest.sources, KINDS],
        training=msgspec.structs.replace(
            manifest.training, command=" && ".join(filter(None, (manifest.training.command, note)))
        ),
        metrics={},
        adapts=None,
    )
    (out / MANIFEST).write_bytes(encode(with_versions(made)))
    measured = measure(Bundle.load(out))
    (out / MANIFEST).write_bytes(encode(with_versions(msgspec.structs.replace(made, metrics=measured))))
    return Bundle.load(out)


def _check(bundle: Bundle, head: KindHead, out: Path) -> None:
    if ITEMS not in bundle.manifest.files:
        raise BundleError(f"{bundle.path}: expected a bundle with {ITEMS}, found none: split or train one first")
    if LABELS in bundle.manifest.files:
        raise BundleError(f"{bundle.path}: expected a bundle that does not use the trend, found {LABELS}")
    found, expected = bundle.backbone().feature_size, head.weight.shape[1]
    if found != expected:
        raise BundleError(f"{bundle.path}: expected a backbone of {expected} features (MobileNet v1), found {found}")
    both = sorted(set(head.kinds) & set(bundle.categories))
    if both:
        raise BundleError(f"{bundle.path}: expected categories other than the kinds, found {both[0]!r} in both")
    if out.exists() and out.samefile(bundle.path):
        raise BundleError(f"{out}: expected another folder than that of the bundle, which bags may still need")


def _plausible(categories: Sequence[str], kinds: Sequence[str]) -> NDArray[np.float32]:
    """Return float32 [K, D]: 1 where a product of the category may be of the kind. A category that is not in the table may be any."""
    table = read_categories()
    return np.array(
        [[category not in table or kind in table[category].plausible for category in categories] for kind in kinds],
        np.float32,
    )


def _with_item_kinds(model: onnx.ModelProto, head: KindHead) -> onnx.ModelProto:
    scale = np.maximum(np.abs(head.weight).max(axis=1, keepdims=True), 1e-12) / 127  # [n,1]
    graph = model.graph
    _rename(graph, "embedding", f"{_OWN}embedding")
    _add(
        graph,
        {
            "levels": np.rint(head.weight / scale).astype(np.int8),
            "scale": scale.astype(np.float32),
            "bias": head.bias,
            "membership": head.membership,
            "least": np.float32(LEAST),
            "softness": np.float32(SOFTNESS),
            "tiny": np.float32(1e-30),  # no class of a kind is likely at all: the logarithm stays finite
            "factor": np.float32(SCALE),
        },
        [
            ("Cast", ["levels"], "wide", {"to": TensorProto.FLOAT}),
            ("Mul", ["wide", "scale"], "weight", {}),
            ("Gemm", ["/features", "weight", "bias"], "logits", {"transB": 1}),
            ("Div", ["logits", "softness"], "soft", {}),
            ("Softmax", ["soft"], "classes", {"axis": 1}),
            ("MatMul", ["classes", "membership"], "sums", {}),
            ("Max", ["sums", "tiny"], "some", {}),
            ("Log", ["some"], "log", {}),
            ("Mul", ["log", "softness"], "of_kinds", {}),
            ("LogSoftmax", ["of_kinds"], "probabilities", {"axis": 1}),
            ("Max", ["probabilities", "least"], "bounded", {}),
            ("Mul", ["bounded", "factor"], "numbers", {}),
            ("Concat", [f"/{_OWN}embedding", "numbers"], "/embedding", {"axis": 1}),
        ],
    )
    _widen(graph.output, "embedding", len(head.kinds))
    return model


def _with_bag_kinds(model: onnx.ModelProto, size: int, plausible: NDArray[np.float32]) -> onnx.ModelProto:
    graph, kinds = model.graph, len(plausible)
    _rename(graph, "embeddings", f"{_OWN}embeddings")
    _rename(graph, "scores", f"{_OWN}scores")
    _add(
        graph,
        {
            "first": np.array([0], np.int64),
            "one": np.array([1], np.int64),
            "two": np.array([2], np.int64),
            "between": np.array([size], np.int64),
            "end": np.array([size + kinds], np.int64),
            "zero": np.float32(0),
            "factor": np.float32(1 / SCALE),
            "plausible": plausible,
            "exponents": np.where(plausible.all(axis=0), 0, PLAUSIBLE).astype(np.float32),
            "least": np.float32(LEAST_PLAUSIBLE),
            "most": np.float32(1),
        },
        [
            ("Slice", ["/embeddings", "first", "between", "two"], f"/{_OWN}embeddings", {}),
            ("Slice", ["/embeddings", "between", "end", "two"], "numbers", {}),
            ("IsInf", [f"/{LOG_WEIGHT}"], "padding", {"detect_positive": 0}),
            ("Unsqueeze", ["padding", "two"], "padded", {}),
            ("Where", ["padded", "zero", "numbers"], "clean", {}),  # 0 * NaN is NaN
            ("Mul", ["clean", "factor"], "log", {}),
            ("Exp", ["log"], "probabilities", {}),
            ("Softmax", [f"/{LOG_WEIGHT}"], "weights", {"axis": 1}),
            ("Unsqueeze", ["weights", "one"], "row", {}),
            ("MatMul", ["row", "probabilities"], "sums", {}),
            ("Squeeze", ["sums", "one"], "shares", {}),
            ("ReduceSum", ["shares", "one"], "total", {"keepdims": 1}),
            ("Div", ["shares", "total"], "kinds", {}),
            ("ReduceMax", [f"/{LOG_WEIGHT}", "one"], "heaviest", {"keepdims": 1}),
            ("Sub", [f"/{LOG_WEIGHT}", "heaviest"], "relative", {}),
            ("Exp", ["relative"], "relative_weights", {}),
            ("Unsqueeze", ["relative_weights", "two"], "column", {}),
            ("MatMul", ["probabilities", "plausible"], "of_items", {}),
            ("Mul", ["of_items", "column"], "weighted", {}),
            ("ReduceMax", ["weighted", "one"], "largest", {"keepdims": 0}),
            ("Clip", ["largest", "least", "most"], "bounded", {}),
            ("Pow", ["bounded", "exponents"], "lessened", {}),
            ("Mul", [f"/{_OWN}scores", "lessened"], "scores", {}),
            ("Concat", ["scores", "kinds"], "/scores", {"axis": 1}),
        ],
        first=1,
    )
    _widen(graph.input, "embeddings", kinds)
    _widen(graph.output, "scores", kinds)
    return model


def _rename(graph: onnx.GraphProto, old: str, new: str) -> None:
    """Rename a value in all nodes, but not where the graph declares it as input or output."""
    for node in graph.node:
        node.input[:] = [new if name == old else name for name in node.input]
        node.output[:] = [new if name == old else name for name in node.output]


def _add(
    graph: onnx.GraphProto,
    constants: dict[str, NDArray[Any] | np.generic],
    nodes: Sequence[tuple[str, list[str], str, dict[str, int]]],
    *,
    first: int = 0,
) -> None:
    """Add nodes: operator, inputs, output, attributes. A name that begins with / is one of the graph; others are new.

    The first `first` nodes go before those of the graph, which need their outputs; the others go after.
    """

    def full(name: str) -> str:
        return name[1:] if name.startswith("/") else f"{_NEW}{name}"

    del graph.value_info[:]
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(value), full(name)) for name, value in constants.items()
    )
    made: list[onnx.NodeProto] = []
    for operator, inputs, output, attributes in nodes:
        node = helper.make_node(operator, [full(name) for name in inputs], [full(output)], name=full(output))
        node.attribute.extend(helper.make_attribute(name, value) for name, value in attributes.items())
        made.append(node)
    own = list(graph.node)
    del graph.node[:]
    graph.node.extend([*made[:first], *own, *made[first:]])


def _widen(values: Sequence[onnx.ValueInfoProto], name: str, by: int) -> None:
    [value] = [value for value in values if value.name == name]
    value.type.tensor_type.shape.dim[-1].dim_value += by
