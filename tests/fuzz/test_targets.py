"""Each target holds for its seeds and for inputs near them. The inputs are the same in each run; `make fuzz` finds new ones."""

import importlib
from pathlib import Path
from time import process_time
from typing import Any

import pytest
from hypothesis import given, settings

from tests.fuzz import MAX_LENGTH, MAX_SECONDS, TARGETS
from tests.fuzz.inputs import SLOW_IS_FINE, inputs
from tests.usage import resident_mb

EXAMPLES = 50
GROWTH_MB = 100


def target(name: str) -> Any:
    return importlib.import_module(f"tests.fuzz.{name}")


def checked(module: Any, data: bytes) -> str:
    begun = process_time()
    outcome: str = module.check(data)
    assert process_time() - begun < MAX_SECONDS
    return outcome


@pytest.mark.parametrize("name", TARGETS)
def test_the_seeds_hold_and_reach_more_than_one_outcome(name: str) -> None:
    module = target(name)
    assert max(map(len, module.seeds())) <= MAX_LENGTH
    assert len({checked(module, seed) for seed in module.seeds()}) > 1


@pytest.mark.parametrize("name", TARGETS)
def test_inputs_near_the_seeds_hold(name: str) -> None:
    module = target(name)
    before = resident_mb()

    @settings(max_examples=EXAMPLES, derandomize=True, database=None, deadline=None, suppress_health_check=SLOW_IS_FINE)
    @given(inputs(module.seeds()))
    def holds(data: bytes) -> None:
        checked(module, data)

    holds()
    assert resident_mb() - before < GROWTH_MB


def test_every_module_with_seeds_is_a_target() -> None:
    found = {path.stem for path in Path(__file__).parent.glob("*.py") if "\ndef seeds(" in path.read_text()}
    assert found == set(TARGETS)
