"""Makes the tests of training quick: one thread for torch, and one registry of its ONNX operators.

The networks are small, so a second thread gains nothing. Where several test processes share the cores, threads that wait for each
other cost ten times the step.
"""

import functools
import os
import sys
from collections.abc import Iterator

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when torch is imported, which the tests do later


@pytest.fixture(scope="session", autouse=True)
def one_registry_of_operators() -> Iterator[None]:
    """Let all exports to ONNX share torch's registry of operators.

    torch builds it anew for each export, from the source text of 500 functions: 0.5 s of the 1.3 s that a small network takes.
    """
    if "torch" not in sys.modules:  # no test of this run exports anything
        yield
        return
    from torch.onnx._internal.exporter._registration import ONNXRegistry  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield
