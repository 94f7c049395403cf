"""`targets.parquet`: one row per target of a run, in the order of the stream, with all figures of all methods.

    user, place, origin, time, bag_size, age, events_of_user, labels    as in `prequential.MeasuredTargets`; age in milliseconds
    owned                                                               bool
    METHOD: FIGURE                                                      float32, such as `recommended: hit@5`, and the figures by field

`tastestream replay compare` uses it to compare runs target by target.
"""

from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from offline_training.datasets.parquet import parquet_module
from offline_training.replay.evaluation.fields import FieldFigures
from offline_training.replay.evaluation.prequential import MeasuredTargets
from offline_training.replay.exceptions import ReplayError

TARGETS = "targets.parquet"
COLUMNS = {
    "place": ("places", np.int32),
    "origin": ("origins", np.int32),
    "time": ("times", np.int64),
    "bag_size": ("bag_sizes", np.int32),
    "age": ("ages", np.int64),
    "events_of_user": ("activity", np.int32),
    "labels": ("labels", np.int32),
    "owned": ("owned", np.bool_),
}
"""The attribute of `MeasuredTargets` and the type of each column."""
KEY = b"tastestream"  # in the metadata of the schema


class _Metadata(msgspec.Struct):
    """What the columns do not hold."""

    methods: list[str]
    figures: list[str]
    by_field: list[str]
    derived: list[str]
    fine: list[str]
    coverage: dict[str, dict[str, float]]
    without_known_category: int


def write(measured: MeasuredTargets, figures: tuple[str, ...], path: Path) -> None:
    """Write the figures of a run.

    Args:
        measured: the targets and their figures.
        figures: the names of the columns of `measured.figures`.
        path: the file to write.

    Raises:
        ReplayError: the file cannot be written.
    """
    arrow = import_module("pyarrow")
    names = arrow.array(measured.names, arrow.string())
    columns: dict[str, Any] = {"user": arrow.DictionaryArray.from_arrays(measured.users, names)}
    columns |= {name: arrow.array(getattr(measured, attribute)) for name, (attribute, _) in COLUMNS.items()}
    by_field = measured.by_field
    for header, some in ((figures, measured.figures), (by_field.figures, by_field.rows)):
        for method, values in some.items():
            columns |= {
                f"{method}: {figure}": arrow.array(np.ascontiguousarray(values[:, number]))
                for number, figure in enumerate(header)
            }
    metadata = _Metadata(
        list(measured.figures), list(figures), by_field.figures, by_field.derived, by_field.fine,
        measured.coverage, measured.without_known_category,
    )  # fmt: skip
    table = arrow.table(columns).replace_schema_metadata({KEY: msgspec.json.encode(metadata)})
    try:
        parquet_module().write_table(table, path)
    except OSError as error:
        raise ReplayError(f"{path} cannot be written: {error}: make room, and run it again") from error


def read(path: Path) -> tuple[MeasuredTargets, tuple[str, ...]]:
    """Read the figures of a run, and the names of their columns. Raises ReplayError for any other file."""
    parquet = parquet_module()
    try:
        table = parquet.read_table(path)
        metadata = msgspec.json.decode((table.schema.metadata or {}).get(KEY, b""), type=_Metadata)
        users = table["user"].combine_chunks()
        users = users.chunk(0) if hasattr(users, "chunk") else users
        columns = {
            attribute: table[name].to_numpy().astype(kind, copy=False) for name, (attribute, kind) in COLUMNS.items()
        }
        figures, by_field = (
            {
                method: np.stack([table[f"{method}: {figure}"].to_numpy() for figure in header], axis=1)
                for method in metadata.methods
            }
            for header in (metadata.figures, metadata.by_field)
        )
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ReplayError(
            f"{path}: expected what `tastestream replay` writes, found {error}: run the same replay again; it only evaluates again"
        ) from error
    measured = MeasuredTargets(
        names=users.dictionary.to_pylist(),
        users=users.indices.to_numpy().astype(np.int32),
        figures=figures,
        by_field=FieldFigures(metadata.by_field, by_field, metadata.derived, metadata.fine),
        coverage=metadata.coverage,
        without_known_category=metadata.without_known_category,
        **columns,
    )
    return measured, tuple(metadata.figures)
