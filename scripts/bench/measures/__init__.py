"""One module a measure; each returns rows (`bench.rows.Row`)."""
