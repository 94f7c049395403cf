"""Fixtures: a small shop, its embeddings, and a bundle that was trained for it."""

from pathlib import Path

import pytest

from tests.offline_training.bundles.small_shop import done, write_shop


@pytest.fixture(scope="session")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared data set: pictures of three colours, and users who like one or two of them."""
    folder = tmp_path_factory.mktemp("shop")
    write_shop(folder)
    return folder


@pytest.fixture(scope="session")
def embeddings(shop: Path) -> Path:
    path = shop / "embeddings.npz"
    said = done("train", "embed", shop / "set", "--out", path)
    assert "address_not_public 1" in said
    assert "not_a_picture 1" in said
    return path


@pytest.fixture(scope="session")
def trained(shop: Path, embeddings: Path) -> Path:
    said = done(
        "train", "bundle", shop / "set", "--embeddings", embeddings, "--out", shop / "bundle", "--name", "colours",
        "--version", "1.0.0",
    )  # fmt: skip
    assert "colours 1.0.0" in said
    return shop / "bundle"
