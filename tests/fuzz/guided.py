"""Fuzzes one target in libFuzzer, guided by the coverage of `streams` and `model`: `python -m tests.fuzz.guided NAME [options]`.

The process ends with the target: libFuzzer exits on its own. `tests.fuzz.__main__` starts one for each target.
"""

import importlib
import sys

import atheris  # pyright: ignore[reportMissingImports] -- `make fuzz` installs it beside the environment


def main(name: str, options: list[str]) -> None:
    """Run libFuzzer with its own options, until they end it."""
    with atheris.instrument_imports(include=["streams", "model"]):
        target = importlib.import_module(f"tests.fuzz.{name}")

    atheris.Setup([sys.argv[0], *options], lambda data: target.check(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
