"""What `tastestream train compare` found, as a page: results (the data) -> tables, charts -> page. Needs no torch."""
