"""Asks the OSV database for known vulnerabilities of what the workers install: `make audit`.

    python -m tests.audit [LOCK FILE ...]

Exit code 0 if there are none, 1 if there are some, and 2 if nothing was checked: the database is on the internet.

https://google.github.io/osv.dev/post-v1-querybatch/
"""

# ruff: noqa: T201 -- a command

import json
import os
import re
import sys
import urllib.request
from pathlib import Path
from typing import NamedTuple

DATABASE = os.environ.get("OSV", "https://api.osv.dev")
RUN = Path(__file__).parents[1] / "requirements" / "run.txt"
PINNED = re.compile(r"^([A-Za-z0-9._-]+)==([^\s;\\]+)", re.MULTILINE)
TIMEOUT = 60  # seconds


class Pin(NamedTuple):
    """A package of a lock file."""

    name: str
    version: str


def pins(lock: str) -> list[Pin]:
    """The packages of a lock file of pip."""
    return [Pin(*found) for found in PINNED.findall(lock)]


def vulnerabilities(packages: list[Pin], database: str = DATABASE) -> dict[Pin, list[str]]:
    """The ids of the known vulnerabilities, of the packages that have some. Raises OSError, or ValueError for a strange answer."""
    queries = [{"package": {"name": one.name, "ecosystem": "PyPI"}, "version": one.version} for one in packages]
    request = urllib.request.Request(
        f"{database}/v1/querybatch", json.dumps({"queries": queries}).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=TIMEOUT) as response:
        answer = json.load(response)
    results = answer.get("results") if isinstance(answer, dict) else None
    if not isinstance(results, list) or len(results) != len(packages):
        raise ValueError(f"not an answer to {len(packages)} queries")
    found = {
        package: [one["id"] for one in result.get("vulns", [])]
        for package, result in zip(packages, results, strict=True)
    }
    return {package: ids for package, ids in found.items() if ids}


def main(locks: list[Path]) -> int:
    """Check lock files. Prints one line for each package that has a vulnerability, and one about the whole."""
    packages = sorted({one for lock in locks for one in pins(lock.read_text())})
    try:
        found = vulnerabilities(packages)
    except (OSError, ValueError) as error:  # an HTTP error too; JSON that is none
        print(
            f"audit: nothing was checked: the vulnerability database at {DATABASE} cannot be asked ({error})",
            file=sys.stderr,
        )
        return 2
    for package, ids in found.items():
        print(f"{package.name} {package.version}: {', '.join(ids)} (https://osv.dev/{ids[0]})")
    print(f"{len(found)} of {len(packages)} packages have known vulnerabilities")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main([Path(name) for name in sys.argv[1:]] or [RUN]))
