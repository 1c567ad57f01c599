"""One module for each measure; each returns rows (`bench.rows.Row`)."""
