"""Writes the tables of purchases that docs/results/hm-purchases.md is measured on, for `tastestream dataset hm --transactions`.

    python -m tests.benchmarks.hm_purchases FOLDER --out TABLES

`purchases.parquet` and `replay_users.parquet` in FOLDER are excerpts of one table: their column `__index_level_0__` is the row in it.
Each user of the replay is among the purchases, too, under a number and with some more events: the copy. TABLES gets

    all.parquet     purchases of everybody, then those of the replay
    users.parquet   purchases of the users of the replay, and of their copies
"""

import argparse
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

ROW = "__index_level_0__"
COLUMNS = ("t_dat", "customer_id", "article_id")


def read(path: Path) -> pa.Table:
    """Purchases, with the customer as text."""
    table = pq.read_table(path, columns=[*COLUMNS, ROW])
    return table.set_column(1, "customer_id", table["customer_id"].cast(pa.large_string()))


def copies(purchases: pa.Table, replayed: pa.Table) -> dict[str, str]:
    """Each user of the replay, and the same user's number among the purchases.

    Raises:
        ValueError: if the tables do not belong together.
    """
    copied = {purchase[ROW]: purchase for purchase in purchases.to_pylist()}
    found: dict[str, str] = {}
    for own in replayed.to_pylist():
        other = copied.get(own[ROW], own)
        same = own["t_dat"] == other["t_dat"] and own["article_id"] == other["article_id"]
        if (
            other is own
            or not same
            or found.setdefault(own["customer_id"], other["customer_id"]) != other["customer_id"]
        ):
            raise ValueError(f"the purchase in row {own[ROW]} of the replay is not among the purchases")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of purchases.parquet and replay_users.parquet")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    purchases, replayed = read(arguments.folder / "purchases.parquet"), read(arguments.folder / "replay_users.parquet")
    everybody = pa.concat_tables([purchases, replayed]).select(COLUMNS)
    pairs = copies(purchases, replayed)
    named = {*pairs, *pairs.values()}
    kept = [user in named for user in everybody["customer_id"].to_pylist()]
    arguments.out.mkdir(parents=True, exist_ok=True)
    pq.write_table(everybody, arguments.out / "all.parquet")
    pq.write_table(everybody.filter(pa.array(kept)), arguments.out / "users.parquet")


if __name__ == "__main__":
    main()
