"""`targets.parquet`: a row for each target of a run, in the order of the stream, with each figure of each method.

    user, place, origin, time, bag_size, age, events_of_user, labels    as in `prequential.Measured`; age in milliseconds
    METHOD: FIGURE                                                      float32, such as `recommended: hit@5`

Two runs over the same events are compared by it, target by target.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from offline_training.datasets.parquet import parquet_module
from offline_training.replay.exceptions import ReplayError
from offline_training.replay.prequential import Measured

TARGETS = "targets.parquet"
COLUMNS = {
    "place": ("places", np.int32),
    "origin": ("origins", np.int32),
    "time": ("times", np.int64),
    "bag_size": ("bag_sizes", np.int32),
    "age": ("ages", np.int64),
    "events_of_user": ("activity", np.int32),
    "labels": ("labels", np.int32),
}
"""Columns by their names: the attribute of `Measured`, and its type."""
KEY = b"tastestream"  # of the schema's metadata


class _Told(msgspec.Struct):
    """What the columns do not say."""

    methods: list[str]
    figures: list[str]
    coverage: dict[str, dict[str, float]]
    without_known_category: int


def write(measured: Measured, figures: tuple[str, ...], path: Path) -> None:
    """figures: the names of `measured.figures`' columns. Raises ReplayError when there is no place for it."""
    arrow = import_module("pyarrow")
    names = arrow.array(measured.names, arrow.string())
    columns: dict[str, Any] = {"user": arrow.DictionaryArray.from_arrays(measured.users, names)}
    columns |= {name: arrow.array(getattr(measured, attribute)) for name, (attribute, _) in COLUMNS.items()}
    for method, values in measured.figures.items():
        columns |= {
            f"{method}: {figure}": arrow.array(np.ascontiguousarray(values[:, number]))
            for number, figure in enumerate(figures)
        }
    told = _Told(list(measured.figures), list(figures), measured.coverage, measured.without_known_category)
    table = arrow.table(columns).replace_schema_metadata({KEY: msgspec.json.encode(told)})
    try:
        parquet_module().write_table(table, path)
    except OSError as error:
        raise ReplayError(f"{path} cannot be written: {error}: make room, and run it again") from error


def read(path: Path) -> tuple[Measured, tuple[str, ...]]:
    """What `write` wrote, and the figures' names. Raises ReplayError for anything else."""
    parquet = parquet_module()
    try:
        table = parquet.read_table(path)
        told = msgspec.json.decode((table.schema.metadata or {}).get(KEY, b""), type=_Told)
        users = table["user"].combine_chunks()
        users = users.chunk(0) if hasattr(users, "chunk") else users
        columns = {
            attribute: table[name].to_numpy().astype(kind, copy=False) for name, (attribute, kind) in COLUMNS.items()
        }
        figures = {
            method: np.stack([table[f"{method}: {figure}"].to_numpy() for figure in told.figures], axis=1)
            for method in told.methods
        }
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ReplayError(
            f"{path}: expected what `tastestream replay` writes, found {error}: run the same replay again, which plays nothing"
        ) from error
    measured = Measured(
        names=users.dictionary.to_pylist(),
        users=users.indices.to_numpy().astype(np.int32),
        figures=figures,
        coverage=told.coverage,
        without_known_category=told.without_known_category,
        **columns,
    )
    return measured, tuple(told.figures)
