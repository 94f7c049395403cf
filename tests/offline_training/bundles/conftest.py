"""Fixtures: a small shop, its embeddings, and a bundle that was trained for it.

Test processes that run side by side (pytest-xdist) share them: the first one that needs them makes them, and the others wait.
"""

import fcntl
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.offline_training.bundles.small_shop import done, write_shop


def once(name: Path, make: Callable[[], None]) -> None:
    """Make something, unless a test process of this run has made it. Raises what `make` raises; the next process then tries again.

    name: of two files that say so, without their suffixes.
    """
    with name.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not name.with_suffix(".made").exists():
            make()
            name.with_suffix(".made").touch()


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set: pictures of three colours, and users who like one or two of them."""
    of_process = tmp_path_factory.getbasetemp()
    folder = (of_process.parent if "PYTEST_XDIST_WORKER" in os.environ else of_process) / "small-shop"
    folder.mkdir(exist_ok=True)
    once(folder / "shop", lambda: write_shop(folder))
    return folder


@pytest.fixture(scope="session")
def embeddings(shop: Path) -> Path:
    path = shop / "embeddings.npz"

    def make() -> None:
        said = done("train", "embed", shop / "set", "--out", path)
        assert "address_not_public 1" in said
        assert "not_a_picture 1" in said

    once(shop / "embeddings", make)
    return path


@pytest.fixture(scope="session")
def trained(shop: Path, embeddings: Path) -> Path:
    def make() -> None:
        said = done(
            "train", "bundle", shop / "set", "--embeddings", embeddings, "--out", shop / "bundle", "--name", "colours",
            "--version", "1.0.0",
        )  # fmt: skip
        assert "colours 1.0.0" in said

    once(shop / "bundle", make)
    return shop / "bundle"
