"""The rule by which the next bundle passes, and its file."""

import json
import shutil
from pathlib import Path

import pytest
from typer.testing import CliRunner

from model.bundle import Bundle
from model.metrics import Interval
from offline_training.datasets.records import DatasetError
from offline_training.retrain import verdict
from offline_training.retrain.verdict import Comparison, Figure, Lead, name_of, passes, rule_text
from streams.cli import app


def figure(low: float, high: float = 0.5) -> Figure:
    lead = Lead.of((low + high) / 2, Interval(low, high))
    return Figure(0.5, 0.4, 0.3, lead, lead)


@pytest.mark.parametrize(
    ("lows", "margin", "passed"),
    [
        ((-0.01, 0.0), 0.02, True),
        ((-0.02, 0.0), 0.02, False),
        ((0.0, -0.03), 0.02, False),
        ((0.001, 0.001), 0.0, True),
        ((0.0, 0.001), 0.0, False),
    ],
)
def test_every_interval_has_to_begin_above_minus_the_margin(
    lows: tuple[float, float], margin: float, passed: bool
) -> None:
    figures = {"hit@5": figure(lows[0]), "micro F1": figure(lows[1])}
    assert passes(figures, margin) is passed


def test_the_file_says_what_was_compared_with_what(tmp_path: Path) -> None:
    bundle = Bundle.load()
    figures = {"hit@5": figure(0.01), "micro F1": figure(0.02)}
    found = Comparison(
        True,
        rule_text(figures, 0.02),
        0.02,
        name_of(bundle),
        name_of(bundle),
        figures,
        "2026-11-01",
        "2026-11-08",
        30,
        90,
    )
    verdict.write(found, tmp_path)
    told = json.loads((tmp_path / "comparison.json").read_text())
    assert set(told) == {"passed", "rule", "margin", "next", "against", "figures", "from", "to", "users", "targets"}
    assert told["against"] == {
        "name": bundle.name,
        "version": bundle.version,
        "embedder_version": bundle.embedder_version,
    }
    assert (
        told["rule"] == "the 95 % interval over users of next minus current begins above -0.02 in hit@5 and in micro F1"
    )
    assert told["figures"]["hit@5"]["over_current"]["low"] == 0.01
    with pytest.raises(DatasetError, match="cannot be written: No such file or directory"):
        verdict.write(found, tmp_path / "gone")


def test_a_bundle_is_intact_with_the_file_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    shutil.copytree(Bundle.load().path, folder)
    bundle = Bundle.load(folder)
    figures = {"hit@5": figure(0.01)}
    name = name_of(bundle)
    verdict.write(Comparison(True, "", 0.02, name, name, figures, "2026-11-01", "2026-11-08", 30, 90), folder)
    done = CliRunner().invoke(app, ["bundle", "check", str(folder)])
    assert done.exit_code == 0, done.output
    assert Bundle.load(folder).embedder_version == bundle.embedder_version
