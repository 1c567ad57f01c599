"""The decisions, as tables and pure functions: no I/O, and no clock of their own."""
