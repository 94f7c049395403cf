"""The report of a comparison: results (the data) -> tables, charts -> page. Needs no torch."""
