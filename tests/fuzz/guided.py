"""Fuzzes one target in libFuzzer, guided by the coverage of `streams` and `model`: `python -m tests.fuzz.guided NAME [options]`.

The process ends with the target: libFuzzer exits on its own. `tests.fuzz.__main__` starts one for each target.
"""

import importlib
import sys
from typing import Any

atheris: Any = importlib.import_module("atheris")  # `make fuzz` installs it beside the environment


def main(name: str, options: list[str]) -> None:
    """Run libFuzzer with its own options, until they end it."""
    with atheris.instrument_imports(include=["streams", "model"]):
        target = importlib.import_module(f"tests.fuzz.{name}")

    def check(data: bytes) -> None:
        target.check(data)

    atheris.Setup([sys.argv[0], *options], check)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
