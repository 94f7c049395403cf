"""A number that no option can have is refused in one short line, whichever command and option it is given to."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from offline_training.cli import dataset_app, evaluate_app, train_app
from offline_training.replay.cli import app as replay_app
from offline_training.retrain.cli import app as retrain_app
from tests.command import Command

BAD = ("--5", "²", "9" * 5000, "inf", "nan", "1e400", "1e5000", "-1", "1" + "0" * 30, "0x10", "")
TEXTS = {
    ("dataset", "folder"): [("--levels", "{}"), ("--levels", "1-{}"), ("--levels", "{}-9")],
    ("dataset", "amazon"): [("--ratings", "{}=purchase")],
    ("retrain",): [("--from", "{}"), ("--until", "{}"), ("--targets", "{}")],
    ("replay",): [
        ("--speed", "{}x"), ("--rate", "{}/s"), ("--delay", "{}d"), ("--serve-on", "127.0.0.1:{}"), ("--from", "{}"), ("--until", "{}"),
    ],
}  # fmt: skip
"""Options whose text holds a number."""


def number_options() -> Iterator[tuple[tuple[str, ...], str, str]]:
    for name, mounted in (
        ("dataset", dataset_app),
        ("train", train_app),
        ("evaluate", evaluate_app),
        ("replay", replay_app),
        ("retrain", retrain_app),
    ):
        command: Any = typer.main.get_command(mounted)
        for path, one in [((name, sub), found) for sub, found in getattr(command, "commands", {}).items()] or [
            ((name,), command)
        ]:
            for option in one.params:
                if re.search(r"\b(int|float)\b", str(option.type_descriptor.annotation)):
                    yield path, option.opts[0], "{}"
    for path, texts in TEXTS.items():
        yield from ((path, option, text) for option, text in texts)


CASES = list(number_options())


@pytest.fixture
def tastestream(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Command:
    monkeypatch.chdir(tmp_path)
    return Command(monkeypatch, capsys)


def test_all_number_options_are_found() -> None:
    found = {f"{' '.join(path)} {option}" for path, option, _ in CASES}
    assert {
        "dataset amazon --min-items",
        "dataset topic --max-labels",
        "train bundle --seed",
        "train embedder --rate",
    } <= found
    assert {"evaluate --variants", "replay --users", "replay --limit", "replay --k", "train compare --threads"} <= found


@pytest.mark.parametrize(
    ("path", "option", "text"), CASES, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_a_number_that_cannot_be_is_one_line(
    tastestream: Command, path: tuple[str, ...], option: str, text: str
) -> None:
    loop = ["--items", "items.csv", "--against", "current", "--out", "next"]
    required = {"replay": ["shop", "--out", "run"], "evaluate": [], "retrain": loop}.get(
        path[0], ["shop", "--out", "out"]
    )
    if path == ("dataset", "amazon"):
        required = ["--reviews", "r.json", "--metadata", "m.json", "--out", "out"]
    for bad in BAD:
        if text == "{}" and (option, bad) in {("--delay", ""), ("--levels", "")}:
            continue
        done = tastestream(*path, f"{option}={text.format(bad)}", *required)
        said = [line for line in (done.out + done.err).splitlines() if line.strip()]
        assert done.code in {1, 2}, (bad[:20], said)
        assert len(said) == 1, (bad[:20], said)
        assert said[0].startswith(f"error: Invalid value for '{option}'") or said[0].startswith(f"error: {option}"), (
            said
        )
        assert len(said[0]) < 250, said[0][:300]
