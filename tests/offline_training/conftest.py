"""Makes the tests of training quick: one thread for torch, one registry of its ONNX operators, and narrow item networks.

The networks are small, so a second thread gains nothing. Where several test processes share the cores, threads that wait for each
other cost ten times the step.
"""

import functools
import os
import sys
from collections.abc import Iterator
from dataclasses import replace

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


@pytest.fixture(scope="session", autouse=True)
def narrow_item_networks() -> Iterator[None]:
    """Let item networks be as wide as a few dozen items need: 1,024 numbers take six seconds of a training."""
    if "torch" not in sys.modules:
        yield
        return
    from offline_training.item_network.network import ITEM_RECIPES  # noqa: PLC0415

    with pytest.MonkeyPatch.context() as patch:
        for task, recipe in ITEM_RECIPES.items():
            patch.setitem(ITEM_RECIPES, task, replace(recipe, width=128))
        yield
