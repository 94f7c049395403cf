"""The lock files pin what pyproject.toml asks for, with hashes, and name no package index."""

import re
import tomllib
from itertools import chain
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
ASKED: dict[str, list[str]] = {
    "run": PROJECT["dependencies"],
    "demo": [*PROJECT["dependencies"], *EXTRAS["demo"]],
    "dev": [*PROJECT["dependencies"], *chain.from_iterable(EXTRAS.values())],
}


def text_of(name: str) -> str:
    return (REPOSITORY / "requirements" / f"{name}.txt").read_text("utf-8")


def pinned(name: str) -> dict[str, set[str]]:
    """The versions of each package; more than one where they differ between Python versions."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(r"^([\w.-]+)==(\S+)", text_of(name), re.MULTILINE):
        found.setdefault(canonicalize_name(package), set()).add(version)
    return found


@pytest.mark.parametrize("name", ASKED)
def test_each_requirement_is_pinned_to_a_version_that_fits(name: str) -> None:
    versions = pinned(name)
    for requirement in map(Requirement, ASKED[name]):
        if requirement.name == PROJECT["name"]:  # an extra that includes another one
            continue
        found = versions.get(canonicalize_name(requirement.name), set())
        assert found, f"requirements/{name}.txt lacks {requirement.name}: run `make lock`"
        misfits = [version for version in found if not requirement.specifier.contains(version)]
        assert not misfits, f"requirements/{name}.txt pins {requirement.name} {misfits}: run `make lock`"


@pytest.mark.parametrize("name", ASKED)
def test_each_pin_has_a_hash(name: str) -> None:
    pins = re.split(r"\n(?=\S)", re.sub(r"^#.*\n", "", text_of(name), flags=re.MULTILINE).strip())
    assert len(pins) >= len(ASKED[name])
    assert [pin for pin in pins if not re.search(r"--hash=sha256:[0-9a-f]{64}", pin)] == []


@pytest.mark.parametrize("name", ASKED)
def test_no_package_index_is_named(name: str) -> None:
    assert "://" not in text_of(name)
    assert "--index" not in text_of(name)


@pytest.mark.parametrize("name", ["run", "demo"])
def test_what_is_deployed_is_what_is_tested(name: str) -> None:
    tested = pinned("dev")
    assert {package: versions for package, versions in pinned(name).items() if versions != tested[package]} == {}


@pytest.mark.parametrize("name", ["run", "demo"])
def test_what_is_deployed_has_no_torch(name: str) -> None:
    assert not {package for package in pinned(name) if package.startswith(("torch", "nvidia", "triton"))}
