"""The tables of figures that the commands of this package print."""

from rich.table import Table

from model.bundle import Bundle

SHOWN = ("recall@1", "recall@3", "precision@3", "MAP", "micro F1")
"""Figures that are printed. The manifest holds all of them."""
KINDS = ("kind@1", "kind@3", "near kind@1", "near kind@3")


def tables_of(bundle: Bundle) -> list[Table]:
    """Make a table of the figures of users, and one of those of the kinds, with a row for each group. An empty one is left out."""
    title = f"{bundle.name} {bundle.version} in {bundle.path}"
    tables: list[Table] = []
    for heading, columns in (("users / method", SHOWN), ("test photos", KINDS)):
        rows = {
            name: [f"{group[column]:.3f}" for column in columns]
            for name, group in bundle.manifest.metrics.items()
            if set(columns) <= group.keys()
        }
        if rows:
            table = Table(heading, *columns, title=title)
            for name, cells in rows.items():
                table.add_row(name, *cells)
            tables.append(table)
    return tables
