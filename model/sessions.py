"""ONNX Runtime sessions set up for a stream worker: little memory, no log output, safe to share between threads."""

import functools
import platform
from pathlib import Path
from typing import NamedTuple

import onnxruntime

from model.exceptions import BundleError


class TensorSpec(NamedTuple):
    """An input or output of a graph. A dimension is a number, or a name if its size may vary."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


def open_session(
    path: Path, threads: int, *, arena: bool = False, content: bytes | None = None
) -> onnxruntime.InferenceSession:
    """Load an ONNX file for the CPU. The session's `run` is safe to call from several threads at once.

    Args:
        path: The ONNX file.
        threads: Threads that compute one call, including the calling thread.
        arena: Whether to keep the memory of the largest call for later calls. Saves page faults if calls take megabytes
            and have similar sizes.
        content: The content of the file as it was checked. None reads the file.

    Raises:
        BundleError: If ONNX Runtime cannot load the file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # an idle worker must not use a core
    if not _has_exact_int8_products():
        options.add_session_config_entry("session.x64quantprecision", "1")
    # Else the file chooses: ONNX Runtime takes a file with ORTM at the fifth byte for its own format, which nobody has checked.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    options.log_severity_level = 3  # errors only, which are raised as well
    try:
        return onnxruntime.InferenceSession(content or str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime exceptions have no common public base class
        reason = str(error).splitlines()[0]
        raise BundleError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it ({reason}): install a complete bundle"
        ) from error


def check_signature(
    path: Path, session: onnxruntime.InferenceSession, inputs: list[TensorSpec], outputs: list[TensorSpec]
) -> None:
    """Check the inputs and outputs of a session against those that the manifest implies.

    Raises:
        BundleError: If an input or output differs. The message gives what was expected and found.
    """
    for kind, expected, found in (("input", inputs, session.get_inputs()), ("output", outputs, session.get_outputs())):
        actual = [_spec_of(node) for node in found]
        if len(actual) != len(expected) or not all(map(_fits, expected, actual)):
            raise BundleError(
                f"{path}: expected the {kind}s {_listed(expected)}, found {_listed(actual)}: "
                "its files belong to different bundles, install a complete one"
            )


@functools.cache
def _has_exact_int8_products() -> bool:
    """Whether the processor sums uint8 x int8 products without saturation.

    x86 processors without VNNI sum pairs of products in 16 bits, which can saturate. The precise mode of ONNX Runtime
    avoids that at half the speed. x86 processors that cannot be identified count as being without VNNI.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return True
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def _spec_of(node: onnxruntime.NodeArg) -> TensorSpec:
    names = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
    return TensorSpec(
        node.name,
        names.get(node.type or "", str(node.type)),
        tuple("?" if axis is None else axis for axis in node.shape),
    )


def _fits(expected: TensorSpec, actual: TensorSpec) -> bool:
    return (
        expected.name == actual.name
        and expected.dtype == actual.dtype
        and len(expected.shape) == len(actual.shape)
        and all(map(_fits_axis, expected.shape, actual.shape))
    )


def _fits_axis(expected: int | str, actual: int | str) -> bool:
    """A named dimension must be variable in the graph. A number must be equal."""
    return isinstance(actual, str) if isinstance(expected, str) else expected == actual


def _listed(specs: list[TensorSpec]) -> str:
    return ", ".join(map(str, specs)) or "none"
