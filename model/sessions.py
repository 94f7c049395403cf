"""ONNX Runtime sessions as a stream worker wants them: small, quiet, and safe to share between threads."""

import functools
import platform
from pathlib import Path
from typing import NamedTuple

import onnxruntime

from model.exceptions import BundleError


class Tensor(NamedTuple):
    """A named end of a graph. A dimension is a number, or a name for one that may vary."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join(map(str, self.shape))}]"


def open_session(path: Path, threads: int, *, arena: bool = False) -> onnxruntime.InferenceSession:
    """Load an ONNX file for the CPU. `InferenceSession.run` may then be called from several threads at once.

    Args:
        path: the file.
        threads: threads for the arithmetic of one call, the caller's among them.
        arena: whether the memory of the largest call so far is kept for the next one. It saves page faults where each call
            takes megabytes, and suits calls of one size.

    Raises:
        BundleError: when ONNX Runtime cannot load the file.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.enable_cpu_mem_arena = arena
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # an idle worker must not burn a core
    if not _has_exact_int8_products():
        options.add_session_config_entry("session.x64quantprecision", "1")
    options.log_severity_level = 3  # errors; what they say is raised as well
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions have no common public base
        reason = str(error).splitlines()[0]
        raise BundleError(
            f"{path}: ONNX Runtime {onnxruntime.__version__} cannot load it ({reason}): install a whole bundle"
        ) from error


def check_ends(path: Path, session: onnxruntime.InferenceSession, inputs: list[Tensor], outputs: list[Tensor]) -> None:
    """Hold the inputs and outputs of a session against what the manifest implies.

    Raises:
        BundleError: for the first end that differs, with what was expected and found.
    """
    for kind, expected, found in (("input", inputs, session.get_inputs()), ("output", outputs, session.get_outputs())):
        actual = [_as_tensor(end) for end in found]
        if len(actual) != len(expected) or not all(map(_fits, expected, actual)):
            raise BundleError(
                f"{path}: expected the {kind}s {_listed(expected)}, found {_listed(actual)}: "
                "manifest and network are not of one bundle, install a whole one"
            )


@functools.cache
def _has_exact_int8_products() -> bool:
    """Whether the processor adds uint8 x int8 products without saturating.

    x86 before VNNI adds pairs of them in 16 bits; ONNX Runtime's precise mode avoids that at half the speed. Unknown
    processors count as old.
    """
    if platform.machine().lower() not in {"x86_64", "amd64"}:
        return True
    try:
        return "vnni" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


def _as_tensor(end: onnxruntime.NodeArg) -> Tensor:
    names = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}
    return Tensor(
        end.name, names.get(end.type or "", str(end.type)), tuple("?" if axis is None else axis for axis in end.shape)
    )


def _fits(expected: Tensor, actual: Tensor) -> bool:
    return (
        expected.name == actual.name
        and expected.dtype == actual.dtype
        and len(expected.shape) == len(actual.shape)
        and all(map(_fits_axis, expected.shape, actual.shape))
    )


def _fits_axis(expected: int | str, actual: int | str) -> bool:
    """A dimension that varies must vary in the graph; a fixed one must be that number."""
    return isinstance(actual, str) if isinstance(expected, str) else expected == actual


def _listed(ends: list[Tensor]) -> str:
    return ", ".join(map(str, ends)) or "none"
