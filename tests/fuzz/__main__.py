"""Fuzzes for as long as you like: `python -m tests.fuzz [--time SECONDS] [TARGET ...]`, or `make fuzz TIME=3600`.

With atheris the inputs are guided by coverage, in one process for each target; the corpus is kept in .cache/fuzz/NAME/corpus, so
that the next run goes on from there. Without atheris, Hypothesis generates inputs near the seeds, other ones each time.

An input that fails is kept in .cache/fuzz/NAME, with the error beside it. To run it again:

    python -m tests.fuzz NAME --input FILE
"""

import argparse
import hashlib
import importlib
import importlib.util
import re
import secrets
import subprocess
import sys
import traceback
from collections import Counter
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

from hypothesis import Phase, given, seed, settings

from tests.fuzz import MAX_LENGTH, TARGETS
from tests.fuzz.inputs import SLOW_IS_FINE, inputs

CACHE = Path(__file__).parents[2] / ".cache" / "fuzz"
MAX_MEMORY_MB = 1024  # of one target
TIMEOUT = 20  # seconds of one input; instrumented code is some times slower
ROUND = 100  # inputs of Hypothesis between two looks at the clock


class Found(NamedTuple):
    """What came out for one target."""

    failed: bool
    covered: str


def guided(name: str, seconds: int) -> Found:
    """Fuzz with libFuzzer, in a process of its own."""
    folder = CACHE / name
    corpus = folder / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for one in importlib.import_module(f"tests.fuzz.{name}").seeds():
        (corpus / hashlib.sha256(one).hexdigest()[:16]).write_bytes(one)
    options = [
        f"-max_total_time={seconds}", f"-max_len={MAX_LENGTH}", f"-rss_limit_mb={MAX_MEMORY_MB}", f"-timeout={TIMEOUT}",
        f"-artifact_prefix={folder}/", "-print_final_stats=1", "-reload=0", str(corpus),
    ]  # fmt: skip
    log = folder / "log.txt"
    with log.open("wb") as file:
        process = subprocess.run(
            [sys.executable, "-m", "tests.fuzz.guided", name, *options],
            stdout=file,
            stderr=subprocess.STDOUT,
            check=False,
        )
    text = log.read_text(errors="replace")
    inputs_run = re.findall(r"stat::number_of_executed_units:\s*(\d+)", text)
    progress = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", text)
    edges, features, kept = progress[-1] if progress else ("0", "0", "0")
    covered = f"{inputs_run[-1] if inputs_run else 0} inputs, {edges} branches and {features} features reached, {kept} inputs kept"
    return Found(process.returncode != 0, f"{covered}; {log}" if process.returncode else covered)


def unguided(name: str, seconds: int) -> Found:
    """Fuzz with Hypothesis, in this process."""
    target: Any = importlib.import_module(f"tests.fuzz.{name}")
    outcomes: Counter[str] = Counter()
    last = b""

    def check(data: bytes) -> None:
        nonlocal last
        last = data
        outcomes[target.check(data)] += 1

    until = monotonic() + seconds
    while monotonic() < until:
        round_of = settings(
            max_examples=ROUND, database=None, deadline=None, suppress_health_check=SLOW_IS_FINE,
            phases=[Phase.generate, Phase.shrink],
        )  # fmt: skip
        try:
            seed(secrets.randbits(64))(round_of(given(inputs(target.seeds()))(check)))()
        except Exception:  # noqa: BLE001 -- whatever it is, it is what this looks for
            folder = CACHE / name
            folder.mkdir(parents=True, exist_ok=True)
            place = folder / f"crash-{hashlib.sha256(last).hexdigest()[:16]}"
            place.write_bytes(last)
            place.with_suffix(".txt").write_text(traceback.format_exc())
            return Found(True, f"{outcomes.total()} inputs; {place}, and the error in {place}.txt")
    return Found(False, f"{outcomes.total()} inputs, {len(outcomes)} outcomes")


def main() -> int:
    """Fuzz each target for the given time. Returns 1 if an input failed."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"all, or some of {', '.join(TARGETS)}")
    parser.add_argument("--time", type=int, default=60, metavar="SECONDS", help="for each target")
    parser.add_argument("--input", type=Path, metavar="FILE", help="run one input, and show what it does")
    given_options = parser.parse_args()
    names = given_options.targets or list(TARGETS)
    if unknown := set(names) - set(TARGETS):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if given_options.input:
        for name in names:
            outcome = importlib.import_module(f"tests.fuzz.{name}").check(given_options.input.read_bytes())
            print(f"{name}: {outcome}")  # noqa: T201
        return 0
    fuzz = guided if importlib.util.find_spec("atheris") else unguided
    how = "guided by coverage (atheris)" if fuzz is guided else "not guided by coverage: atheris is not installed"
    print(f"{len(names)} targets, {given_options.time} s each, {how}", flush=True)  # noqa: T201
    failed = False
    for name in names:
        found = fuzz(name, given_options.time)
        failed |= found.failed
        print(f"{'FAILED' if found.failed else 'passed'}  {name}: {found.covered}", flush=True)  # noqa: T201
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
