"""Looking without touching: what is in a queue, why, and what a directory can do."""
