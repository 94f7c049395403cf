"""The figures of each target are written to a file and read back."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pyarrow", reason="needs the extra `parquet`")

import pyarrow as pa
import pyarrow.parquet as pq

from offline_training.replay.evaluation.prequential import MeasuredTargets, Rules
from offline_training.replay.evaluation.targets import read, write
from offline_training.replay.exceptions import ReplayError
from tests.offline_training.replay.test_prequential import LABELS, answered, measured, stream

RULES = Rules(ks=(1, 2))


@pytest.fixture
def found() -> MeasuredTargets:
    events = stream(
        ("ada", "hat", "view", 10),
        ("bob", "hat", "purchase", 20),
        ("ada", "tie", "purchase", 30),
        ("bob", "tie", "purchase", 40),
    )
    one = measured(events, answered(4, p0=[5, 1], p1=[1]), RULES, LABELS)
    rows = {**one.by_field.rows, "a: b": one.by_field.rows["recommended"] + 1}
    return replace(
        one,
        figures={**one.figures, "a: b": one.figures["recommended"] + 1},
        by_field=replace(one.by_field, rows=rows),
    )


def test_figures_are_read_back(found: MeasuredTargets, tmp_path: Path) -> None:
    path = tmp_path / "targets.parquet"
    write(found, RULES.figures, path)
    again, figures = read(path)
    assert figures == RULES.figures
    for name, value in vars(found).items():
        back = getattr(again, name)
        if isinstance(value, np.ndarray):
            assert back.dtype == value.dtype and (back == value).all(), name
        elif name == "figures":
            assert list(back) == list(value)
            assert all((back[method] == value[method]).all() for method in value)
        elif name == "by_field":
            assert (back.figures, back.derived, back.fine) == (value.figures, value.derived, value.fine)
            assert all(np.array_equal(back.rows[method], value.rows[method], equal_nan=True) for method in value.rows)
        else:
            assert back == value, name
    table = pq.read_table(path)
    assert table["user"].to_pylist() == ["bob", "ada", "bob"]
    assert table["recommended: recall@2"].to_pylist() == [0, 0.5, 0]


def test_a_run_without_targets_has_an_empty_file(tmp_path: Path) -> None:
    write(
        measured(stream(("ada", "hat", "view", 1)), answered(1), RULES, LABELS), RULES.figures, tmp_path / "t.parquet"
    )
    assert read(tmp_path / "t.parquet")[0].names == []


def test_other_files_are_refused(found: MeasuredTargets, tmp_path: Path) -> None:
    (tmp_path / "text.parquet").write_text("none")
    pq.write_table(pa.table({"user": ["ada"]}), tmp_path / "other.parquet")
    for name in ("text", "other", "missing"):
        with pytest.raises(ReplayError, match=rf"{name}.parquet: expected what `tastestream replay` writes"):
            read(tmp_path / f"{name}.parquet")
    with pytest.raises(ReplayError, match="cannot be written"):
        write(found, RULES.figures, tmp_path / "nowhere" / "t.parquet")
