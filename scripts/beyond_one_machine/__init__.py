"""Many machines on one: a publisher, workers and servers that are killed again and again."""
