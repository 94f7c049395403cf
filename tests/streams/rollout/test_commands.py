"""Commands that end before they ask a broker: one clear line, and an exit code."""

from pathlib import Path

import pytest

from tests.command import Command
from tests.streams.rollout.shop import write_next


@pytest.fixture
def tastestream(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize("command", ["prepare", "status", "promote"])
def test_without_a_next_bundle_there_is_no_rollout(tastestream: Command, command: str) -> None:
    done = tastestream("rollout", command)
    assert done.code == 78
    assert done.err.startswith("error: TASTESTREAM_NEXT_BUNDLE is not set")
    assert done.err.count("\n") == 1


@pytest.mark.parametrize("command", ["prepare", "status", "promote"])
def test_a_broken_next_bundle_is_named_in_one_line(tastestream: Command, command: str, tmp_path: Path) -> None:
    write_next(tmp_path / "next")
    (tmp_path / "next" / "items.onnx").write_bytes(b"broken")
    done = tastestream("rollout", command, TASTESTREAM_NEXT_BUNDLE=str(tmp_path / "next"))
    assert done.code == 78
    assert "items.onnx" in done.err
    assert done.err.count("\n") == 1


def test_a_bundle_with_the_same_embedder_needs_no_preparation(tastestream: Command, tmp_path: Path) -> None:
    folder = tmp_path / "next"
    write_next(folder)
    done = tastestream("rollout", "prepare", TASTESTREAM_BUNDLE=str(folder), TASTESTREAM_NEXT_BUNDLE=str(folder))
    assert done.code == 0
    assert done.out.startswith("nothing to prepare")
    assert not (tmp_path / "data" / "rollout" / "prepare" / "ledger").exists()


def test_abort_says_what_to_unset_and_asks_nobody(tastestream: Command, tmp_path: Path) -> None:
    done = tastestream("rollout", "abort", TASTESTREAM_NEXT_BUNDLE=str(tmp_path), TASTESTREAM_NAMESPACE="shop")
    assert done.code == 0
    assert "Unset TASTESTREAM_NEXT_BUNDLE" in done.out
    assert "shop-user-recommendations-next" in done.out


@pytest.mark.parametrize(("option", "value"), [("--rate", "0"), ("--limit", "0"), ("--rate", "x")])
def test_a_wrong_argument_is_one_line_and_code_2(tastestream: Command, option: str, value: str) -> None:
    done = tastestream("rollout", "prepare", option, value)
    assert done.code == 2
    assert option in done.err
